// A stock link: does argv[3] (announce, lookup, put or get) with the JSON argument argv[4] through the grape at argv[2], and prints
// {"event": "done", "error": TEXT or null, "code": NUMBER or null, "result": VALUE or null}.
'use strict'

const Link = require('grenache-nodejs-link')

const [grape, action, argument] = process.argv.slice(2)
const link = new Link({ grape })
link.start()

const done = (error, result) => {
  const said = error ? error.message : null
  console.log(JSON.stringify({ event: 'done', error: said, code: error?.code ?? null, result: result ?? null }))
  process.exit(0)
}
const data = JSON.parse(argument)
if (action === 'announce') link.announce(data[0], data[1], {}, done)
else link[action](data, done)
