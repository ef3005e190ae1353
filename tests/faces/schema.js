// Whether the collection is what Postman imports, and the API's description what its readers expect:
// node schema.js COLLECTION ENVIRONMENT DESCRIPTION
//
// The collection is held against the published schema of the 2.1 format, the description against OpenAPI 3.1's. For environments
// none is published.
'use strict'

const fs = require('fs')
const { OASValidator, PostmanValidator } = require('@har-sdk/validator')

const read = (file) => JSON.parse(fs.readFileSync(file, 'utf8'))
const [collectionFile, environmentFile, descriptionFile] = process.argv.slice(2)
const errors = []
const check = (good, sentence) => good || errors.push(sentence)

// All requests, with the folders that they are in.
function * requests (items, folders = []) {
  for (const item of items) {
    if (item.item) yield * requests(item.item, [...folders, item])
    else yield { item, folders }
  }
}

async function main () {
  const collection = read(collectionFile)
  const format = 'https://schema.getpostman.com/json/collection/v2.1.0/collection.json'
  check(collection.info.schema === format, `info.schema is not ${format}`)
  for (const error of await new PostmanValidator().verify(collection)) {
    errors.push(`the collection's ${error.instancePath} ${error.message}`)
  }
  // A server may be named from where the description is (OpenAPI 3.1, 4.8.5); the validator alone wants whole addresses.
  const description = read(descriptionFile)
  description.servers = description.servers.filter((server) => !server.url.startsWith('.'))
  for (const error of await new OASValidator().verify(description)) {
    errors.push(`the description's ${error.instancePath} ${error.message}`)
  }

  const names = new Set()
  for (const { item, folders } of requests(collection.item)) {
    const name = [...folders, item].map((part) => part.name).join(' / ')
    check(!names.has(item.name), `${name}: the name is used twice, so a run could go on at the wrong place`)
    names.add(item.name)
    check(item.request.description, `${name}: no description`)
    check(folders.every((folder) => folder.description), `${name}: its folder has no description`)
    const tests = (item.event || []).filter((event) => event.listen === 'test')
    check(tests.some((event) => /pm\.test\(/.test(event.script.exec.join('\n'))), `${name}: no test`)
    for (const event of item.event || []) {
      // A collection run waits for promises too, so scripts may use them.
      check(parses(event.script.exec.join('\n')), `${name}: its ${event.listen} script is not JavaScript`)
    }
  }

  const environment = read(environmentFile)
  check(environment._postman_variable_scope === 'environment', 'the environment does not say that it is one')
  check(typeof environment.name === 'string' && environment.name, 'the environment has no name')
  const variables = new Set(environment.values.map((variable) => variable.key))
  for (const { key } of collection.variable) check(variables.has(key), `the environment has no ${key}`)
  for (const value of environment.values) {
    const known = typeof value.value === 'string' && ['default', 'secret'].includes(value.type) && value.enabled === true
    check(known, `the environment's ${value.key} has another form`)
  }

  for (const error of errors) console.error(error)
  if (errors.length) process.exit(1)
  console.log(`${names.size} requests`)
}

function parses (script) {
  try {
    return Boolean(new Function(`(async () => {${script}\n})`))
  } catch {
    return false
  }
}

main().catch((error) => {
  console.error(error)
  process.exit(1)
})
