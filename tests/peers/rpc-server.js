// A stock RPC service of version argv[2], as in the README of grenache-nodejs-http: it is announced through the grape at argv[3]
// under the name argv[4]. argv[5]: {"stream": BOOL, "secure": TLS options} or null.
//
// It answers a request with {key, payload, client}, the last being the name in the client's certificate; with an error when the
// payload is "fail", with nothing when it is "nothing". As a stream service it answers with what the stream carried.
//
// Prints {"event": "ready", "port": PORT} once it is announced.
'use strict'

const { say, link: startLink, rpc, secure, endWithTest } = require('./stock')

const [version, grape, name, given] = process.argv.slice(2)
const options = JSON.parse(given) ?? {}

const link = startLink(version, grape)
const peer = new (rpc(version).PeerRPCServer)(link, {
  timeout: 10000,
  secure: secure(options.secure),
  disableBuffered: options.stream
})
peer.init()
const service = peer.transport('server')
service.listen(0)

if (options.stream) {
  service.on('stream', (req, res, meta, handler) => {
    const [rid, key] = meta.infoHeaders
    const { isStream, action, args } = meta
    let body = ''
    req.on('data', (data) => { body += data })
    req.on('end', () => handler.reply(rid, null, { key, isStream, action, args, body }))
  })
} else {
  service.on('request', (rid, key, payload, handler, cert) => {
    if (payload === 'fail') return handler.reply(new Error('ERR_EXAMPLE'), null)
    if (payload === 'nothing') return handler.reply(null)
    handler.reply(null, { key, payload, client: cert?.subject?.CN ?? null })
  })
}

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

endWithTest()
