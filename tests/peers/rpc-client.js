// A stock RPC client of version argv[2]: looks the service argv[4] up through the grape at argv[3], does what the JSON list argv[5]
// says, one after the other, and prints {"event": "reply", "error": TEXT or null, "result": VALUE} for each. argv[6]: TLS options
// or null.
//
// {"do": "request" or "map", "payload": VALUE, "options": {...}} calls; {"do": "stream", "chunks": [TEXT...], "open": BOOL,
// "options": {"headers": {...}}} streams, and with "open" does not end the body; its result is what came back, as it is.
'use strict'

const { say, link: startLink, rpc, secure } = require('./stock')

const [version, grape, name, list, tls] = process.argv.slice(2)
const peer = new (rpc(version).PeerRPCClient)(startLink(version, grape), { secure: secure(JSON.parse(tls)) })
peer.init()

const reply = (error, result) => say({ event: 'reply', error: error ? error.message : null, result: result ?? null })

const call = ({ do: method, payload, options }) => new Promise((resolve) => {
  peer[method](name, payload, { timeout: 20000, ...options }, (error, result) => {
    reply(error, result)
    resolve()
  })
})

const stream = ({ chunks, open, options }) => new Promise((resolve) => {
  const body = peer.stream(name, { timeout: 20000, ...options })
  const pieces = []
  body.on('data', (data) => {
    pieces.push(data)
    // Whoever does not end its own side is not told of the other's end.
    if (open) finish()
  })
  const finish = () => {
    const text = Buffer.concat(pieces).toString()
    reply(null, JSON.parse(text || 'null'))
    resolve()
  }
  body.on('end', () => { if (!open) finish() })
  body.on('error', (error) => { reply(error); resolve() })
  const next = (at) => {
    if (at < chunks.length) return body.write(chunks[at], () => setTimeout(next, 5, at + 1))
    if (!open) body.end()
  }
  next(0)
})

const run = async () => {
  for (const item of JSON.parse(list)) await (item.do === 'stream' ? stream(item) : call(item))
  process.exit(0)
}
run()
