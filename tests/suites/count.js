// Reads what mocha tells as JSON, prints it in a line, and ends with 1 unless so many tests ran and all passed.
'use strict'

const [name, wanted] = process.argv.slice(2)
let text = ''
process.stdin.on('data', (data) => { text += data }).on('end', () => {
  // Tests may print before it.
  const from = text.indexOf('{\n  "stats"')
  if (from < 0) {
    console.error(`tests/suites: ${name} told nothing:\n${text}`)
    process.exit(1)
  }
  const { stats, failures } = JSON.parse(text.slice(from))
  for (const { fullTitle, err } of failures) console.error(`${fullTitle}\n${err.stack || err.message}\n`)
  console.log(`tests/suites: ${name}: ${stats.passes} of ${wanted} passed in ${Math.round(stats.duration / 100) / 10} s`)
  process.exit(stats.passes === Number(wanted) && stats.failures === 0 ? 0 : 1)
})
