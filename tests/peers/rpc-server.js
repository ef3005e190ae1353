// A stock RPC service, as in the README of grenache-nodejs-http: it is announced through the grape at argv[2] under the name
// argv[3], and answers each request with what it got, or with an error when the payload is "fail".
//
// Prints {"event": "ready", "port": PORT} once it is announced.
'use strict'

const { PeerRPCServer } = require('grenache-nodejs-http')
const Link = require('grenache-nodejs-link')

const [grape, name] = process.argv.slice(2)
const say = (line) => console.log(JSON.stringify(line))

const link = new Link({ grape })
link.start()
const peer = new PeerRPCServer(link, { timeout: 10000 })
peer.init()
const service = peer.transport('server')
service.listen(0)
service.on('request', (rid, key, payload, handler) => {
  if (payload === 'fail') return handler.reply(new Error('ERR_EXAMPLE'), null)
  handler.reply(null, { key, payload })
})
service.socket.on('listening', () => {
  const port = service.socket.address().port
  link.announce(name, port, {}, (error, nodes) => {
    // A stock link takes a grape's error text for success.
    if (error || typeof nodes !== 'number') {
      say({ event: 'failed', error: String(error || nodes) })
      process.exit(1)
    }
    say({ event: 'ready', port })
  })
})

process.stdin.on('end', () => process.exit(0)).resume()
