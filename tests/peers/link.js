// A stock link of version argv[2] on the grape at argv[3]: takes the steps in the JSON list argv[4] one after the other and prints
// {"event": "done", "error": TEXT or null, "code": NUMBER or null, "result": VALUE, "type": the result's type} for each.
//
// A step is [METHOD, ARGUMENT...], as in ["announce", "name", 1337, {}]. A method that throws, or that this version does not have,
// is an error, too.
'use strict'

const { say, link: startLink, endWithTest } = require('./stock')

const [version, grape, list] = process.argv.slice(2)
const link = startLink(version, grape)

const step = ([method, ...given]) => new Promise((resolve) => {
  const done = (error, result) => {
    const said = error ? error.message : null
    say({ event: 'done', error: said, code: error?.code ?? null, result, type: typeof result })
    resolve()
  }
  try {
    if (!link[method]) throw new Error(`no ${method}`)
    link[method](...given, done)
  } catch (error) {
    done(error)
  }
})

const run = async () => {
  for (const item of JSON.parse(list)) await step(item)
  say({ event: 'end' })
}
run()
// What is announced again and again goes on until the test ends.
endWithTest()
