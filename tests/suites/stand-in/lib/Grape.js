// The class of a stock grape, as far as programs' tests use it, with a `vintner grape` behind it: calls go to its HTTP API, and what
// it tells under /events is emitted. The program is the one that the variable VINTNER names.
'use strict'

const { spawn } = require('node:child_process')
const Events = require('node:events')
const http = require('node:http')

// How often a grape that is starting is asked whether it listens, and how long it may take to end.
const RETRY_MS = 10
const END_MS = 2000

class Grape extends Events {
  constructor (conf) {
    super()
    this.conf = { dht_bootstrap: [], ...conf }
  }

  start (cb = () => {}) {
    const { host, dht_port: dht, api_port: api, dht_bootstrap: bootstrap, dht_peer_maxAge: age } = this.conf
    if (!api) return cb(new Error('ERR_NO_PORT'))
    const given = ['grape', '--dp', dht, '--aph', api, '--bn', bootstrap.join(','), '--events', '--until-stdin-ends']
    if (host) given.push('-b', host)
    if (age !== undefined) given.push('--dpa', age)
    const child = spawn(process.env.VINTNER, given.map(String), { stdio: ['pipe', 'ignore', 'pipe'] })
    this.child = child
    let said = ''
    child.stderr.on('data', (data) => { said += data })
    child.on('error', (error) => { throw error })
    let started = false
    this.ended = new Promise((resolve) => child.on('exit', (code) => {
      if (!started && this.child === child) cb(new Error(`vintner grape ended with ${code}: ${said}`))
      resolve()
    }))
    this.listen(child, () => {
      started = true
      cb()
    })
  }

  // Emits what the grape tells; `up` is called once it listens.
  listen (child, up) {
    const again = () => {
      if (this.child === child && child.exitCode === null) setTimeout(() => this.listen(child, up), RETRY_MS)
    }
    const request = http.get({ host: '127.0.0.1', port: this.conf.api_port, path: '/events', agent: false }, (response) => {
      let text = ''
      response.setEncoding('utf8')
      response.on('data', (data) => {
        text += data
        const blocks = text.split('\n\n')
        text = blocks.pop()
        for (const block of blocks) this.tell(block)
      })
      response.on('error', () => {})
      // Whom it met before anybody listened.
      this.call('get_metrics', undefined, (_, page) => {
        if (/^vintner_dht_nodes.* [1-9]/m.test(page)) this.emit('node')
      })
      up()
    })
    request.on('error', again)
  }

  tell (block) {
    const field = (name) => block.split('\n').find((line) => line.startsWith(`${name}: `))?.slice(name.length + 2)
    const [event, data] = [field('event'), field('data')]
    if (!event) return
    if (event === 'announce') this.emit('announce', JSON.parse(data))
    if (event === 'peer') this.emit('peer', JSON.parse(data))
    if (['ready', 'node', 'warning'].includes(event)) this.emit(event)
  }

  call (operation, data, cb) {
    const [method, path] = operation === 'get_metrics' ? ['GET', '/metrics'] : ['POST', `/${operation}`]
    const request = http.request({ host: '127.0.0.1', port: this.conf.api_port, method, path, agent: false }, (response) => {
      let text = ''
      response.setEncoding('utf8')
      response.on('data', (part) => { text += part })
      response.on('end', () => cb(null, text, response.statusCode))
    })
    request.on('error', (error) => cb(error))
    request.end(method === 'POST' ? JSON.stringify({ rid: 'stand-in', data }) : undefined)
  }

  // A text that is no result is an error, as a stock grape's own methods have it.
  ask (operation, data, isResult, cb = () => {}) {
    this.call(operation, data, (error, text) => {
      if (error) return cb(error)
      let result
      try {
        result = text && JSON.parse(text)
      } catch {
        return cb(new Error(text))
      }
      if (isResult(result)) cb(null, result)
      else cb(new Error(result))
    })
  }

  announce (name, port, cb) {
    this.ask('announce', [name, port], Number.isInteger, cb)
  }

  lookup (name, cb) {
    this.ask('lookup', name, Array.isArray, cb)
  }

  put (data, cb) {
    this.ask('put', data, (hash) => /^[0-9a-f]{40}$/.test(hash), cb)
  }

  get (data, cb) {
    this.ask('get', data, (found) => found === '' || typeof found === 'object', cb)
  }

  stop (cb = () => {}) {
    const child = this.child
    if (!child) return cb()
    this.child = undefined
    child.kill('SIGTERM')
    const late = setTimeout(() => child.kill('SIGKILL'), END_MS)
    this.ended.then(() => {
      clearTimeout(late)
      cb()
    })
  }
}

module.exports = Grape
