'use strict'

exports.Grape = require('./lib/Grape')
