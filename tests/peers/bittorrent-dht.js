// The DHT library under a stock grape, as a node of its own, driven by lines of JSON.
//
// node bittorrent-dht.js 127.0.0.1:20001 ... joins through these nodes and prints {"event": "ready", "dht": PORT}. Each line on
// standard input is a command; its outcome is one line with the same "n", and with "error" where it failed:
//   {"n": 1, "do": "ping", "node": "127.0.0.1:20001"}                   {"n": 1, "id": HEX}
//   {"n": 2, "do": "announce", "hash": HEX, "port": PORT}               {"n": 2, "nodes": 3}
//   {"n": 3, "do": "lookup", "hash": HEX}                               {"n": 3, "peers": ["127.0.0.1:1337"]}
//   {"n": 4, "do": "put", "v": JSON}                                    {"n": 4, "target": HEX, "stored_on": 3}
//   {"n": 5, "do": "put", "v": JSON, "seed": HEX, "seq": 1, "salt": TEXT, "cas": 0, "forged": true}
//   {"n": 6, "do": "get", "target": HEX, "salt": TEXT}                  {"n": 6, "v": JSON or null, "seq": 1}
// Byte strings in values that come back are shown as text.
'use strict'

const crypto = require('node:crypto')
const readline = require('node:readline')
const DHT = require('bittorrent-dht')

// What precedes the 32 raw bytes of an Ed25519 key in its X.509 and PKCS#8 forms (RFC 8410).
const SPKI_PREFIX = Buffer.from('302a300506032b6570032100', 'hex')
const PKCS8_PREFIX = Buffer.from('302e020100300506032b657004220420', 'hex')

const verify = (signature, message, publicKey) => {
  const key = crypto.createPublicKey({ key: Buffer.concat([SPKI_PREFIX, publicKey]), format: 'der', type: 'spki' })
  return crypto.verify(null, message, key, signature)
}

const say = (line) => console.log(JSON.stringify(line))
const bootstrap = process.argv.slice(2)
const dht = new DHT({ bootstrap, verify })

const shown = (value) => {
  if (Buffer.isBuffer(value) || value instanceof Uint8Array) return Buffer.from(value).toString()
  if (Array.isArray(value)) return value.map(shown)
  if (value && typeof value === 'object') {
    return Object.fromEntries(Object.entries(value).map(([name, field]) => [name, shown(field)]))
  }
  return value
}

const commands = {
  ping ({ node }, done) {
    const [host, port] = node.split(':')
    dht._rpc.query({ host, port: Number(port) }, { q: 'ping', a: { id: dht.nodeId } }, (error, reply) => {
      done(error, { id: reply && Buffer.from(reply.r.id).toString('hex') })
    })
  },

  announce ({ hash, port }, done) {
    dht.announce(hash, port, (error, nodes) => done(error, { nodes }))
  },

  lookup ({ hash }, done) {
    const peers = new Set()
    const found = (peer, name) => {
      if (Buffer.from(name).toString('hex') === hash) peers.add(`${peer.host}:${peer.port}`)
    }
    dht.on('peer', found)
    dht.lookup(hash, (error) => {
      dht.removeListener('peer', found)
      done(error, { peers: [...peers] })
    })
  },

  put ({ v, seed, seq, salt, cas, forged }, done) {
    const item = { v }
    if (seed) {
      const der = Buffer.concat([PKCS8_PREFIX, Buffer.from(seed, 'hex')])
      const key = crypto.createPrivateKey({ key: der, format: 'der', type: 'pkcs8' })
      item.k = crypto.createPublicKey(key).export({ format: 'der', type: 'spki' }).subarray(SPKI_PREFIX.length)
      item.sign = (message) => forged ? Buffer.alloc(64, 7) : crypto.sign(null, message, key)
      item.seq = seq
      if (salt) item.salt = Buffer.from(salt)
      if (cas !== undefined) item.cas = cas
    }
    dht.put(item, (error, target, storedOn) => {
      done(error, { target: target && Buffer.from(target).toString('hex'), stored_on: storedOn })
    })
  },

  get ({ target, salt }, done) {
    dht.get(target, { cache: false, salt: salt ? Buffer.from(salt) : undefined }, (error, item) => {
      done(error, item ? { v: shown(item.v), seq: item.seq } : { v: null })
    })
  }
}

dht.once('ready', () => {
  say({ event: 'ready', dht: dht.address().port })
  readline.createInterface({ input: process.stdin }).on('line', (line) => {
    const command = JSON.parse(line)
    commands[command.do](command, (error, outcome) => {
      say(error ? { n: command.n, error: error.message, code: error.code } : { n: command.n, ...outcome })
    })
  }).on('close', () => process.exit(0))
})
dht.listen(0)
