// A stock grape on loopback that also takes mutable values, which the `grape` command has no flag for.
//
// node grape.js '{"dht": PORT, "http": PORT, "bootstrap": ["127.0.0.1:PORT", ...]}' prints "ready" when it listens, and ends with its
// standard input, so that it never outlives the bench.
'use strict'

const { Grape } = require('grenache-grape')
const { verify } = require('./keys')

const { dht, http, bootstrap } = JSON.parse(process.argv[2])
const grape = new Grape({ host: '127.0.0.1', dht_port: dht, dht_bootstrap: bootstrap, api_port: http, verify })
grape.start((error) => {
  if (error) throw error
  console.log('ready')
})

process.stdin.on('end', () => process.exit(0)).resume()
