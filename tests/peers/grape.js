// A stock grape that can also verify signed values, which the `grape` command cannot be told to do.
//
// node grape.js '{"bootstrap": ["127.0.0.1:1"], "verify": true, "dht": PORT, "payload": BYTES}' prints one JSON object a line:
// first {"event": "ready", "dht": PORT, "http": PORT}, then {"event": "announce", "name": NAME} for each announcement it hears.
'use strict'

const crypto = require('node:crypto')
const net = require('node:net')
const Grape = require('grenache-grape').Grape

const options = JSON.parse(process.argv[2] || '{}')
const say = (line) => console.log(JSON.stringify(line))

// What precedes the 32 raw bytes of an Ed25519 key in its X.509 form (RFC 8410).
const SPKI_PREFIX = Buffer.from('302a300506032b6570032100', 'hex')

const verify = (signature, message, publicKey) => {
  if (!signature || signature.length !== 64 || !publicKey || publicKey.length !== 32) return false
  const key = crypto.createPublicKey({ key: Buffer.concat([SPKI_PREFIX, publicKey]), format: 'der', type: 'spki' })
  return crypto.verify(null, message, key, signature)
}

// A stock grape takes no port 0 for HTTP, so a free one is found first.
const probe = net.createServer().listen(0, '127.0.0.1', () => {
  const apiPort = probe.address().port
  probe.close(() => start(apiPort))
})

const start = (apiPort) => {
  const grape = new Grape({
    host: '127.0.0.1',
    dht_port: options.dht || 0,
    dht_bootstrap: options.bootstrap || [],
    api_port: apiPort,
    check_maxPayloadSize: options.payload || 8192,
    verify: options.verify ? verify : undefined
  })
  let started = false
  let joined = false
  const ready = () => {
    if (started && joined) say({ event: 'ready', dht: grape.node.address().port, http: apiPort })
  }
  grape.on('announce', (name) => say({ event: 'announce', name }))
  grape.once('ready', () => { joined = true; ready() })
  grape.start((error) => {
    if (error) throw error
    started = true
    ready()
  })
}

// The test that started this program has ended when its end of the pipe closes.
process.stdin.on('end', () => process.exit(0)).resume()
