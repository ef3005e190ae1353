// Swagger UI as a person uses it, in a real Chromium: node swagger.js MAKER TAKER [SCREENSHOT]
//
// MAKER and TAKER are the APIs of two nodes of one network, such as http://127.0.0.1:4000. Creates an offer on the maker's page,
// bids on it on the taker's, looks at what the pages say of their nodes, uses one behind a proxy's prefix, and then tries from a page
// of another origin what such a page must not do. Prints what it saw, and one JSON object with the offer and the trade; ends with 1
// and a sentence at the first thing that is not as it should be.
'use strict'

const assert = require('assert')
const { execFileSync } = require('child_process')
const http = require('http')
const { chromium } = require('playwright-core')

const [maker, taker, screenshot] = process.argv.slice(2)

// Longer than anything here takes on a busy machine.
const PATIENCE_MS = 30000
// As tall as what the picture in docs/ should show.
const VIEW = { width: 1180, height: 1320 }
// A name that its owner pointed at this machine, as in DNS rebinding.
const REBOUND = 'rebound.example'

const FLAGS = [
  '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync', '--no-proxy-server', '--disable-dev-shm-usage',
  `--host-resolver-rules=MAP ${REBOUND} 127.0.0.1`
]

function program () {
  const names = [process.env.VINTNER_CHROMIUM, 'chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable']
  for (const name of names.filter(Boolean)) {
    try {
      return execFileSync('sh', ['-c', 'command -v "$1"', 'sh', name], { encoding: 'utf8' }).trim()
    } catch {}
  }
  throw new Error('there is no Chromium here: run tests/faces/install.sh, or name its program in VINTNER_CHROMIUM')
}

const json = async (url) => (await fetch(url)).json()

async function until (what, condition) {
  const started = Date.now()
  while (!await condition()) {
    assert(Date.now() - started < PATIENCE_MS, `waited in vain for ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
}

// A page that remembers whatever it asked for outside of `origin`, and whatever it complained about.
async function watched (browser, origin) {
  const page = await (await browser.newContext({ viewport: VIEW })).newPage()
  page.setDefaultTimeout(PATIENCE_MS)
  const complaints = []
  const inside = (url) => ['data:', 'blob:'].includes(new URL(url).protocol) || new URL(url).origin === origin
  page.on('request', (request) => inside(request.url()) || complaints.push(`it asked for ${request.url()}`))
  page.on('requestfailed', (request) => complaints.push(`${request.url()} failed: ${request.failure().errorText}`))
  page.on('console', (message) => ['error', 'warning'].includes(message.type()) && complaints.push(`console: ${message.text()}`))
  page.on('pageerror', (error) => complaints.push(`script: ${error.message}`))
  return { page, complaints }
}

// Opens one operation of a node's Swagger UI and presses "Try it out".
async function tryOut (browser, node, tag, operation) {
  const { page, complaints } = await watched(browser, node)
  await page.goto(`${node}/swagger-ui`)
  const block = page.locator(`#operations-${tag}-${operation}`)
  await block.locator('.opblock-summary-control').click()
  await block.getByRole('button', { name: 'Try it out' }).click()
  return { page, block, complaints }
}

// Presses "Execute", and returns the status and the body that the page shows.
async function execute (block) {
  await block.getByRole('button', { name: 'Execute' }).click()
  const row = block.locator('.live-responses-table .response').first()
  await row.waitFor()
  const status = (await row.locator('.response-col_status').innerText()).trim().split(/\s/)[0]
  const body = await row.locator('.response-col_description .highlight-code').first().innerText()
  const start = body.indexOf('{')
  return { status, body: JSON.parse(body.slice(start, body.lastIndexOf('}') + 1)) }
}

async function trade (browser) {
  const create = await tryOut(browser, maker, 'offers', 'create_offer')
  const created = await execute(create.block)
  assert.strictEqual(created.status, '201', `the example of create: ${JSON.stringify(created)}`)
  const offer = created.body
  assert.deepStrictEqual([offer.status, offer.side, offer.mine], ['open', 'sell', true], JSON.stringify(offer))
  console.log(`created ${offer.id} with "Try it out" and "Execute", nothing typed`)
  await until('the taker to list the offer', async () => (await fetch(`${taker}/api/v1/offers/${offer.id}`)).ok)
  const bid = await tryOut(browser, taker, 'bids', 'place_bid')
  // As a person does it: the id of the answer is pasted into the one field that is required. The body stays as it is.
  await bid.block.locator('tr[data-param-name="id"] input').fill(offer.id)
  const sold = await execute(bid.block)
  assert.strictEqual(sold.status, '201', `the example of a bid: ${JSON.stringify(sold)}`)
  assert.deepStrictEqual([sold.body.status, sold.body.price], ['accepted', offer.offer_price], JSON.stringify(sold.body))
  assert.strictEqual(sold.body.trade.offer_id, offer.id)
  assert(sold.body.trade.signatures.trade.sig && sold.body.trade.signatures.bid.sig, 'both signatures are shown')
  console.log(`bid on it: trade ${sold.body.trade_id} is in the page`)

  if (screenshot) await picture(bid, screenshot)
  for (const { page, complaints } of [create, bid]) {
    assert.deepStrictEqual(complaints, [], 'Swagger UI asks nobody else and complains about nothing')
    await page.context().close()
  }
  return { offer: offer.id, trade: sold.body.trade_id }
}

// What tells the pages of two nodes apart, and what they leave out: locks where no token is needed, schemas, examples of errors.
async function faces (browser) {
  const titles = []
  for (const node of [maker, taker]) {
    const { client_id: id, network } = await json(`${node}/api/v1/node`)
    const { page, complaints } = await watched(browser, node)
    // From the root, as who only knows the address.
    await page.goto(node)
    assert.strictEqual(page.url(), `${node}/swagger-ui/`)
    await page.locator('#operations-offers-create_offer .opblock-summary-control').click()
    const title = await page.title()
    assert(title.includes(id.slice(0, 8)) && title.includes(network), title)
    const header = await page.locator('header.node').innerText()
    assert(header.includes(id) && header.includes(network) && header.startsWith(title.split(' · ')[0]), header)
    titles.push(title)
    await page.locator('.opblock.is-open .responses-wrapper').waitFor()
    for (const hidden of ['.authorization__btn', '.auth-wrapper', 'section.models']) {
      assert.strictEqual(await page.locator(hidden).count(), 0, `${hidden} is shown`)
    }
    const row = page.locator('.opblock.is-open tr.response[data-code="422"]')
    assert((await row.innerText()).includes('validation_failed'), await row.innerText())
    assert.strictEqual(await row.locator('.model-example').count(), 0, 'the examples of an error are open')
    await row.getByRole('button', { name: 'Show examples' }).click()
    const open = page.locator('.opblock.is-open tr.response[data-code="422"]')
    await open.locator('.model-example').first().waitFor()
    await page.getByRole('button', { name: 'Hide the examples' }).click()
    assert.strictEqual(await page.locator('.opblock.is-open tr.response[data-code="422"] .model-example').count(), 0)
    assert(await page.locator('.opblock.is-open tr.response[data-code="201"] .model-example').count(), 'the good answer shows its example')
    assert.deepStrictEqual(complaints, [], 'the page asks nobody else and complains about nothing')
    await page.context().close()
  }
  assert.notStrictEqual(titles[0], titles[1])
  console.log(`the pages are named ${titles.join(' and ')}`)
}

// The page as a proxy shows it under a prefix: it must ask for nothing outside of it.
async function prefixed (browser) {
  const outside = []
  const proxy = http.createServer((request, response) => {
    if (!request.url.startsWith('/node/')) {
      outside.push(request.url)
      response.writeHead(404).end()
      return
    }
    const { host, port } = new URL(maker)
    const headers = { ...request.headers, host }
    // As the page in docs/operating.md has it.
    delete headers.origin
    const options = { host: '127.0.0.1', port, path: request.url.slice('/node'.length), method: request.method, headers }
    request.pipe(http.request(options, (answer) => {
      response.writeHead(answer.statusCode, answer.headers)
      answer.pipe(response)
    }))
  })
  await new Promise((resolve) => proxy.listen(0, '127.0.0.1', resolve))
  const origin = `http://127.0.0.1:${proxy.address().port}`
  for (const start of ['/node/', '/node/swagger-ui']) {
    const { page, complaints } = await watched(browser, origin)
    await page.goto(origin + start)
    assert.strictEqual(page.url(), `${origin}/node/swagger-ui/`)
    const block = page.locator('#operations-offers-create_offer')
    await block.locator('.opblock-summary-control').click()
    await block.getByRole('button', { name: 'Try it out' }).click()
    const created = await execute(block)
    assert.strictEqual(created.status, '201', JSON.stringify(created))
    assert.deepStrictEqual([complaints, outside], [[], []], 'the page keeps to its prefix')
    await page.context().close()
  }
  proxy.closeAllConnections()
  proxy.close()
  console.log('behind a prefix the page does the same')
}

async function picture ({ page, block }, path) {
  // What was sent and what came back, in one view.
  await page.addStyleTag({
    content: `.opblock > div > .opblock-body > .opblock-description-wrapper, .curl-command { display: none }
      .parameters-col_description input { max-width: 30em !important }
      .body-param__text { min-height: 0 !important; height: 3em !important }
      .highlight-code > .microlight { max-height: 520px !important }`
  })
  await block.evaluate((element) => window.scrollTo(0, element.getBoundingClientRect().top + window.scrollY - 58))
  await page.mouse.move(0, 0)
  await page.screenshot({ path })
}

// A page of another origin of this machine tries each way in which a page can send something.
async function foreignPage (browser) {
  const server = http.createServer((_, response) => {
    response.setHeader('content-type', 'text/html')
    response.end('<title>elsewhere</title><iframe name="sink"></iframe>')
  })
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve))
  const elsewhere = `http://127.0.0.1:${server.address().port}`
  const page = await (await browser.newContext()).newPage()
  page.setDefaultTimeout(PATIENCE_MS)
  await page.goto(elsewhere)
  // What the node answered, also where the browser keeps it from the page.
  const [asked, statuses] = [new Map(), new Map()]
  const devtools = await page.context().newCDPSession(page)
  devtools.on('Network.requestWillBeSent', ({ requestId, request }) => asked.set(requestId, request.url))
  devtools.on('Network.responseReceivedExtraInfo', ({ requestId, statusCode }) => statuses.set(requestId, statusCode))
  await devtools.send('Network.enable')
  const answers = () => [...statuses].filter(([id]) => asked.get(id)?.startsWith(maker)).map(([, status]) => status)

  const before = (await json(`${maker}/api/v1/node`)).offers
  const url = `${maker}/api/v1/offers`
  const body = JSON.stringify({ btc_quantity: '1', offer_price: '1' })
  const attempt = (options) => page.evaluate(
    ([url, options]) => fetch(url, options).then(async (answer) => `${answer.type} ${await answer.text()}`, () => 'refused'),
    [url, options])
  const attempts = {
    'a simple request': { method: 'POST', body },
    'a simple request whose answer it does not want': { method: 'POST', body, mode: 'no-cors' },
    'a JSON request': { method: 'POST', body, headers: { 'content-type': 'application/json' } },
    'a look at the offers': {}
  }
  for (const [what, options] of Object.entries(attempts)) {
    assert.strictEqual(await attempt(options), 'refused', `${what} of a foreign page`)
  }
  // A form reaches the node as well, and can be sent without any script.
  const form = page.waitForResponse((response) => response.url() === url && response.request().method() === 'POST')
  await page.evaluate(([url, body]) => {
    const form = document.createElement('form')
    Object.assign(form, { action: url, method: 'post', enctype: 'text/plain', target: 'sink' })
    const field = document.createElement('input')
    Object.assign(field, { name: body.slice(0, -1) + ',"memo":"', value: '"}' })
    form.append(field)
    document.body.append(form)
    form.submit()
  }, [url, body])
  assert.strictEqual((await form).status(), 403, 'a form of a foreign page')
  await until('the node to answer each of the five', () => answers().length >= 5)
  assert.deepStrictEqual(answers(), [403, 403, 403, 403, 403], 'the node refused each of them itself')

  // The name of a stranger that leads to this machine: then the browser takes the node's answers for that stranger's own.
  const rebound = maker.replace('127.0.0.1', REBOUND)
  const seen = await page.goto(`${rebound}/api/v1/offers`)
  assert.strictEqual(seen.status(), 403, 'a name that was pointed at this machine')
  assert.strictEqual((await seen.json()).code, 'foreign_host')

  const after = (await json(`${maker}/api/v1/node`)).offers
  assert.deepStrictEqual([after.own, after.listed], [before.own, before.listed], 'a foreign page changed something')
  console.log(`a page of ${elsewhere} could neither create nor see offers`)
  server.close()
}

async function main () {
  const browser = await chromium.launch({ executablePath: program(), args: FLAGS, timeout: PATIENCE_MS })
  try {
    const done = await trade(browser)
    await faces(browser)
    await prefixed(browser)
    await foreignPage(browser)
    console.log(JSON.stringify(done))
  } finally {
    await browser.close()
  }
}

main().catch((error) => {
  console.error(error.message || error)
  process.exit(1)
})
