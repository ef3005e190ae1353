// The README's tour by openapi-fetch with the types that openapi-typescript made: tour.js MAKER OTHER TAKER
//
// Checked by the compiler, strictly: what is sent and what is read here is what the description says.
import createClient from 'openapi-fetch'
import type { components, paths } from './schema.js'

type Problem = components['schemas']['ProblemView']
type Offer = components['schemas']['OfferView']

declare const process: { argv: string[], exit: (code: number) => never }

const PATIENCE_MS = 30_000

function assert (good: unknown, what: unknown): asserts good {
  if (!good) throw new Error(typeof what === 'string' ? what : JSON.stringify(what))
}

async function until (what: string, is: () => Promise<boolean>): Promise<void> {
  const started = Date.now()
  while (!await is()) {
    assert(Date.now() - started < PATIENCE_MS, `waited in vain for ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}

function refused (answer: { error?: Problem, response: Response }, status: number, code: string): Problem {
  const { error } = answer
  assert(error && answer.response.status === status && error.status === status && error.code === code, [status, code, error])
  return error
}

const client = (at: number) => createClient<paths>({ baseUrl: process.argv[at] })

async function tour (): Promise<void> {
  const [maker, other, taker] = [client(2), client(3), client(4)]

  // Create: text, a number, and one that JavaScript writes with an exponent.
  const create = async (body: components['schemas']['NewOfferBody']): Promise<Offer> => {
    const { data, error } = await maker.POST('/api/v1/offers', { body })
    assert(data, error)
    return data
  }
  const made = await create({ btc_quantity: '0.5', offer_price: '64000' })
  assert(made.status === 'open' && made.side === 'sell' && made.btc_quantity === '0.5' && made.mine, made)
  const small = await create({ btc_quantity: 5e-8, offer_price: 64000.5, side: 'buy', currency: 'EUR', memo: 'by TypeScript' })
  assert(small.btc_quantity === '0.00000005' && small.offer_price === '64000.5' && small.memo === 'by TypeScript', small)

  // List and page, on another node.
  const page = async (query: paths['/api/v1/offers']['get']['parameters']['query']) => {
    const { data, error } = await other.GET('/api/v1/offers', { params: { query } })
    assert(data, error)
    return data
  }
  await until('the offers to be listed', async () => {
    const ids = (await page({})).items.map((offer) => offer.id)
    return ids.includes(made.id) && ids.includes(small.id)
  })
  const seen: string[] = []
  let cursor: string | null | undefined
  do {
    const { items, next_cursor } = await page(cursor ? { limit: 1, cursor } : { limit: 1 })
    assert(items.length <= 1, items)
    seen.push(...items.map((offer) => offer.id))
    cursor = next_cursor
  } while (cursor)
  assert(new Set(seen).size === seen.length && seen.includes(made.id) && seen.includes(small.id), seen)
  const cheap = await page({ side: 'buy', currency: 'EUR', max_quantity: String(5e-8), mine: false })
  assert(cheap.items.some((offer) => offer.id === small.id), cheap)

  // Bid, from a third.
  const named = (id: string) => ({ params: { path: { id } } })
  await until('the taker to hold the offer', async () => (await taker.GET('/api/v1/offers/{id}', named(made.id))).response.ok)
  const bid = (by: typeof taker, body: components['schemas']['NewBidBody']) =>
    by.POST('/api/v1/offers/{id}/bids', { ...named(made.id), body })
  assert(!refused(await bid(taker, { price: 63999.99 }), 409, 'price_below_ask').retryable, 'retryable')
  refused(await bid(maker, {}), 409, 'own_offer')
  const other_version = refused(await bid(taker, { sequence: 1 }), 409, 'terms_changed')
  assert(other_version.offer?.sequence === made.sequence, other_version)
  const placed = await bid(taker, { sequence: made.sequence, side: made.side, btc_quantity: '0.5', price: '64000', wait_ms: 20000 })
  const sold = placed.data
  assert(sold?.status === 'accepted' && sold.trade?.role === 'taker' && sold.price === '64000', placed.error ?? sold)
  const bids = await maker.GET('/api/v1/offers/{id}/bids', named(made.id))
  assert(bids.data?.items.length === 1 && bids.data.items[0]?.id === sold.id, bids)
  const trade = await maker.GET('/api/v1/trades/{id}', named(sold.trade_id ?? ''))
  assert(trade.data?.signatures.trade.sig === sold.trade.signatures.trade.sig, trade)
  const trades = await taker.GET('/api/v1/trades', {})
  assert(trades.data?.items.some((entry) => entry.id === sold.trade_id), trades)
  refused(await bid(taker, {}), 409, 'offer_not_available')

  // Withdraw.
  const withdraw = (tag: string) =>
    maker.DELETE('/api/v1/offers/{id}', { params: { path: { id: small.hash }, header: { 'If-Match': tag } } })
  refused(await withdraw('"1"'), 412, 'sequence_mismatch')
  const gone = await withdraw(`"${small.sequence}"`)
  assert(gone.data?.status === 'withdrawn', gone)
  refused(await withdraw('*'), 409, 'offer_closed')

  // Read a problem field by field.
  const wrong = refused(await maker.POST('/api/v1/offers', { body: { btc_quantity: '-1', offer_price: 0 } }), 422, 'validation_failed')
  assert(wrong.errors?.map((error) => error.pointer).join() === '/btc_quantity,/offer_price', wrong)
  refused(await maker.GET('/api/v1/offers/{id}', named('00000000-0000-7000-8000-000000000000')), 404, 'offer_not_found')
  const node = await maker.GET('/api/v1/node', {})
  assert(node.data?.client_id === made.client_id && node.data.ready, node)
  console.log('the tour is done')
}

tour().catch((error: unknown) => {
  console.error(error)
  process.exit(1)
})
