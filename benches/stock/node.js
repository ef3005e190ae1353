// A trading node as one builds it on the stock Grenache libraries: a grape inside, an RPC service under the node's id, a small
// REST API. Everything is kept in memory; nothing survives a restart, and nothing that it answers is durable.
//
// node node.js '{"dht": PORT, "http": PORT, "rpc": PORT, "api": PORT, "bootstrap": ["127.0.0.1:PORT", ...]}' prints "ready" when the API
// listens, and ends with its standard input.
//
//   POST /offers            an offer of one's own: a mutable DHT value, announced to all as NEW_OFFER:<hash>
//   GET  /offers            every offer that is known to be available
//   POST /offers/<id>/bids  asks the offer's maker by Grenache RPC, whoever that is
'use strict'

const crypto = require('node:crypto')
const http = require('node:http')
const { Grape } = require('grenache-grape')
const { PeerRPCClient, PeerRPCServer } = require('grenache-nodejs-http')
const Link = require('grenache-nodejs-link')
const keys = require('./keys')

const ANNOUNCED = /^NEW_OFFER:([0-9a-f]{40})$/
const BIDS_PATH = /^\/offers\/([^/]+)\/bids$/
// The RPC server needs its port before the id is announced.
const ANNOUNCE_AFTER_MS = 1000
const BID_TIMEOUT_MS = 10000
const RPC_TIMEOUT_MS = 300000

const ports = JSON.parse(process.argv[2])
const clientId = crypto.randomUUID()
const own = new Map() // offer id -> { offer, key }
const available = new Map() // offer id -> offer, of every maker

const grape = new Grape({
  host: '127.0.0.1',
  dht_port: ports.dht,
  dht_bootstrap: ports.bootstrap,
  api_port: ports.http,
  verify: keys.verify
})

const show = (offer, hash) => {
  if (offer.availability) available.set(offer.id, { ...offer, hash })
  else available.delete(offer.id)
}

grape.on('announce', (name) => {
  const announced = ANNOUNCED.exec(name)
  if (announced === null) return
  grape.get(announced[1], (error, item) => {
    if (error || !item) return
    try {
      show(JSON.parse(item.v), announced[1])
    } catch {
      // No offer: somebody else's value.
    }
  })
})

// Puts the offer's newest version into the DHT, then announces it.
const publish = ({ offer, key }, done) => {
  const item = { k: key.raw, seq: offer.sequence, v: Buffer.from(JSON.stringify(offer)), sign: key.sign }
  grape.node.put(item, (error, target) => {
    if (error) return done(error)
    const hash = target.toString('hex')
    grape.announce('NEW_OFFER:' + hash, ports.rpc, (error) => done(error, hash))
  })
}

const create = ({ btc_quantity, offer_price }, done) => {
  const id = crypto.randomUUID()
  const offer = { id, client_id: clientId, btc_quantity, offer_price, sequence: 1, availability: true }
  const record = { offer, key: keys.generate() }
  own.set(id, record)
  publish(record, (error, hash) => {
    if (error) return done(error)
    show(offer, hash)
    done(null, { ...offer, hash })
  })
}

// The maker's side of a bid: the first one gets it.
const take = ({ offer_id }, done) => {
  const record = own.get(offer_id)
  if (record === undefined || !record.offer.availability) return done(new Error('OFFER_NOT_AVAILABLE'))
  record.offer.availability = false
  record.offer.sequence++
  publish(record, (error) => {
    show(record.offer)
    done(error || null, { accepted: true, offer_id })
  })
}

const serveRpc = (link) => {
  const peer = new PeerRPCServer(link, { timeout: RPC_TIMEOUT_MS })
  peer.init()
  const service = peer.transport('server')
  service.listen(ports.rpc)
  service.on('request', (rid, key, payload, handler) => take(payload, handler.reply))
  setTimeout(() => link.startAnnouncing(clientId, ports.rpc), ANNOUNCE_AFTER_MS)
}

const serveApi = (peer) => {
  const answer = (request, body, reply) => {
    if (request.url === '/offers' && request.method === 'GET') return reply(200, [...available.values()])
    if (request.url === '/offers' && request.method === 'POST') {
      return create(body, (error, offer) => error ? reply(500, { error: error.message }) : reply(201, offer))
    }
    const path = BIDS_PATH.exec(request.url)
    const offer = path && request.method === 'POST' ? available.get(path[1]) : undefined
    if (offer === undefined) return reply(404, { error: 'not found' })
    peer.request(offer.client_id, { offer_id: offer.id }, { timeout: BID_TIMEOUT_MS }, (error, result) =>
      error ? reply(409, { error: error.message }) : reply(200, result))
  }
  const api = http.createServer((request, response) => {
    const chunks = []
    request.on('data', (chunk) => chunks.push(chunk))
    request.on('end', () => {
      const text = Buffer.concat(chunks).toString()
      answer(request, text === '' ? {} : JSON.parse(text), (status, body) => {
        const json = JSON.stringify(body)
        response.writeHead(status, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(json) })
        response.end(json)
      })
    })
  })
  api.listen(ports.api, '127.0.0.1', () => console.log('ready'))
}

grape.start((error) => {
  if (error) throw error
  const link = new Link({ grape: `http://127.0.0.1:${ports.http}` })
  link.start()
  serveRpc(link)
  const peer = new PeerRPCClient(link, {})
  peer.init()
  serveApi(peer)
})

process.stdin.on('end', () => process.exit(0)).resume()
