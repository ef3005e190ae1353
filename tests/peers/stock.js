// What the scripts here share: the stock libraries by version, and their options from JSON.
'use strict'

const fs = require('node:fs')

const links = { '0.7': 'grenache-nodejs-link', '1.0': 'link-1' }
const peers = { '0.7': 'grenache-nodejs-http', '1.0': 'http-1' }

exports.say = (line) => console.log(JSON.stringify(line))

// A started link of the given version.
exports.link = (version, grape) => {
  const Link = require(links[version])
  const link = new Link({ grape })
  link.start()
  return link
}

// { PeerRPCClient, PeerRPCServer } of the given version.
exports.rpc = (version) => require(peers[version])

// { key, cert, ca } are paths of PEM files; the rest is handed on as it is.
exports.secure = (options) => {
  if (!options) return undefined
  const read = (path) => fs.readFileSync(path)
  return { ...options, key: read(options.key), cert: read(options.cert), ca: read(options.ca) }
}

// The test that started this program has ended when its end of the pipe closes.
exports.endWithTest = () => process.stdin.on('end', () => process.exit(0)).resume()
