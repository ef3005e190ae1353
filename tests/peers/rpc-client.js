// A stock RPC client: looks the service argv[3] up through the grape at argv[2], sends it the JSON payload argv[4], and prints
// {"event": "reply", "error": TEXT or null, "result": VALUE or null}. argv[5] "compress" sends and wants gzip.
'use strict'

const { PeerRPCClient } = require('grenache-nodejs-http')
const Link = require('grenache-nodejs-link')

const [grape, name, payload, compress] = process.argv.slice(2)

const link = new Link({ grape })
link.start()
const peer = new PeerRPCClient(link, {})
peer.init()
peer.request(name, JSON.parse(payload), { timeout: 10000, compress: compress === 'compress' }, (error, result) => {
  console.log(JSON.stringify({ event: 'reply', error: error ? error.message : null, result: result ?? null }))
  process.exit(0)
})
