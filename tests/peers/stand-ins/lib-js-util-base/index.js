// The two functions that grenache-nodejs-base 1.1.0 takes from this package: it picks a destination with the one, and the
// destinations of a limited `map` with the other.
'use strict'

const below = (n) => Math.floor(Math.random() * n)

exports.sample = (list) => list[below(list.length)]

exports.shuffle = (list) => {
  const shuffled = []
  for (const item of list) shuffled.splice(below(shuffled.length + 1), 0, item)
  return shuffled
}
