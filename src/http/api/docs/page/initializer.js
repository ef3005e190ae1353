'use strict'

// Every address is relative to this page, which may stand under a prefix of a proxy.
const HERE = document.baseURI

// Answers that are errors show what they mean; their examples come when asked for.
const foldedErrors = () => ({
  wrapComponents: {
    response: (Original, system) => function Response (props) {
      const { React } = system
      const [open, setOpen] = React.useState(false)
      if (!(Number(props.code) >= 400)) return React.createElement(Original, props)
      const label = open ? 'Hide the examples' : 'Show examples'
      const button = React.createElement('button', {
        key: 'fold',
        type: 'button',
        className: 'btn btn-sm node-fold',
        'aria-expanded': open,
        onClick: () => setOpen(!open)
      }, label)
      const Markdown = system.getComponent('Markdown', true)
      const words = React.createElement(Markdown, { key: 'words', source: props.response.get('description') })
      const row = React.createElement('tr', { key: 'row', className: 'response', 'data-code': props.code },
        React.createElement('td', { className: 'response-col_status' }, open ? '' : props.code),
        React.createElement('td', { className: 'response-col_description' }, open ? button : [words, button]),
        React.createElement('td', { className: 'response-col_links' }))
      return open ? [React.createElement(Original, { key: 'whole', ...props }), row] : row
    }
  }
})

// Where no token is needed there is nothing to unlock.
function withoutLocks (description) {
  delete description.components.securitySchemes
  for (const item of Object.values(description.paths)) {
    for (const operation of Object.values(item)) delete operation.security
  }
}

window.onload = async () => {
  const place = document.getElementById('swagger-ui')
  const answer = await fetch(new URL('../api/openapi.json', HERE)).catch((error) => ({ ok: false, status: error.message }))
  if (!answer.ok) {
    place.textContent = `The node did not give its description (${answer.status}); load the page again.`
    return
  }
  const description = await answer.json()
  description.servers = [{ url: new URL('..', HERE).href.replace(/\/$/, '') }]
  if (document.body.dataset.token === 'none') withoutLocks(description)
  window.ui = SwaggerUIBundle({
    spec: description,
    dom_id: '#swagger-ui',
    deepLinking: true,
    displayRequestDuration: true,
    defaultModelsExpandDepth: -1,
    // By default the page asks a public service whether the description is valid.
    validatorUrl: 'none',
    presets: [SwaggerUIBundle.presets.apis],
    plugins: [foldedErrors],
    layout: 'BaseLayout'
  })
}
