// Ed25519 for BEP44 by Node's own OpenSSL: faster than any package from npm, so that the stock side loses nothing to its
// signatures. Public keys are imported once each and remembered, within a bound.
'use strict'

const crypto = require('node:crypto')

// Two records' keys are needed at a time; the rest is slack for bursts.
const REMEMBERED_MAX = 10000
// What precedes the 32 raw bytes of an Ed25519 key in its X.509 form (RFC 8410).
const SPKI_PREFIX = Buffer.from('302a300506032b6570032100', 'hex')

const remembered = new Map()

const imported = (raw) => {
  const name = Buffer.from(raw).toString('latin1')
  let key = remembered.get(name)
  if (key === undefined) {
    key = crypto.createPublicKey({ key: Buffer.concat([SPKI_PREFIX, raw]), format: 'der', type: 'spki' })
    if (remembered.size >= REMEMBERED_MAX) remembered.delete(remembered.keys().next().value)
    remembered.set(name, key)
  }
  return key
}

exports.verify = (signature, message, raw) => crypto.verify(null, message, imported(raw), signature)

// A record's key pair: the raw public key, and a function that signs.
exports.generate = () => {
  const { publicKey, privateKey } = crypto.generateKeyPairSync('ed25519')
  const raw = publicKey.export({ format: 'der', type: 'spki' }).subarray(SPKI_PREFIX.length)
  return { raw, sign: (message) => crypto.sign(null, message, privateKey) }
}
