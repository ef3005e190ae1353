//! Swagger UI, as this node shows it: which node it is, no locks where no token is needed, errors folded. All of it is built into the
//! program, nothing is fetched from anywhere, and every address is relative, so that it works under a proxy's prefix.

use super::openapi_json;
use crate::http::api::guard::Stranger;
use axum::{
    Router,
    extract::Path,
    http::{Extensions, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use std::sync::Arc;
use utoipa_swagger_ui::Config;

const INDEX: &str = include_str!("page/index.html");
const INITIALIZER: &str = include_str!("page/initializer.js");
/// Digits of the client id that tell nodes apart in a browser's tabs.
const SHORT_ID_DIGITS: usize = 8;

/// What the page says of its node.
#[derive(Clone, Debug)]
pub(in crate::http::api) struct Shown {
    /// What its owner calls it, or where the API is.
    pub(in crate::http::api) name: String,
    pub(in crate::http::api) network: String,
    pub(in crate::http::api) client_id: String,
    /// The API wants a token.
    pub(in crate::http::api) token: bool,
}

impl Shown {
    /// For whoever may know which node this is.
    fn index(&self) -> String {
        let Self { name, network, client_id, .. } = self;
        let (name, network, client_id) = (escaped(name), escaped(network), escaped(client_id));
        let short_id = client_id.get(..SHORT_ID_DIGITS).unwrap_or_default();
        self.with(
            &format!("{name} · {network} · {short_id} · vintner"),
            &format!(
                "<strong>{name}</strong>\n      <span>network <code>{network}</code></span>\n      <span>client id \
                 <code>{client_id}</code></span>"
            ),
        )
    }

    /// For everybody else: the description, and nothing of the node.
    fn index_for_strangers(&self) -> String {
        self.with(
            "vintner",
            "<strong>vintner</strong>\n      <span>This node says which one it is to whoever shows its token: press Authorize, then \
             try GET /api/v1/node</span>",
        )
    }

    fn with(&self, title: &str, node: &str) -> String {
        let index = INDEX.replace("{{token}}", if self.token { "needed" } else { "none" });
        // Each place once, from its left and right, since an owner may call a node anything.
        let put = |text: &str, place: &str, value: &str| match text.split_once(place) {
            Some((before, after)) => (before.to_owned() + value, after.to_owned()),
            None => (text.to_owned(), String::new()),
        };
        let (head, rest) = put(&index, "{{title}}", title);
        let (middle, rest) = put(&rest, "{{node}}", node);
        head + &middle + &rest
    }
}

/// Text as HTML shows it, also inside quotes.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            letter => escaped.push(letter),
        }
    }
    escaped
}

fn typed(kind: &'static str, text: impl IntoResponse) -> Response {
    ([(header::CONTENT_TYPE, HeaderValue::from_static(kind))], text).into_response()
}

/// To a place that is named from where the browser is, not from the root: a proxy may have put a prefix before it.
async fn to_page() -> Response {
    (StatusCode::SEE_OTHER, [(header::LOCATION, HeaderValue::from_static("swagger-ui/"))]).into_response()
}

/// A file of Swagger UI itself.
fn file(path: &str, config: Arc<Config<'static>>) -> Response {
    match utoipa_swagger_ui::serve(path, config) {
        Ok(Some(file)) => {
            let mut response = file.bytes.into_response();
            let kind = HeaderValue::try_from(file.content_type);
            let kind = kind.unwrap_or(HeaderValue::from_static("application/octet-stream"));
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
            if file.gzpipped {
                response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            }
            response
        }
        Ok(None) => StatusCode::NOT_FOUND.into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// The description, the page, and the way there from the root.
pub(in crate::http::api) fn router(shown: &Shown) -> Router {
    let [index, for_strangers]: [Arc<str>; 2] = [shown.index().into(), shown.index_for_strangers().into()];
    let config: Arc<Config<'static>> = Arc::new(Config::default());
    let page = move |asked: Extensions| async move {
        let is_told = asked.get::<Stranger>().is_none_or(|stranger| stranger.is_here);
        let page = if is_told { index } else { for_strangers };
        // What one may see is not for the next one.
        let kept = [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
        (kept, typed("text/html; charset=utf-8", page.to_string())).into_response()
    };
    let files = move |Path(path): Path<String>| async move { file(&path, config) };
    Router::new()
        .route("/", get(to_page))
        .route("/api/openapi.json", get(|| async { typed("application/json", openapi_json()) }))
        .route("/swagger-ui", get(to_page))
        .route("/swagger-ui/", get(page.clone()))
        .route("/swagger-ui/index.html", get(page))
        .route(
            "/swagger-ui/swagger-initializer.js",
            get(|| async { typed("text/javascript; charset=utf-8", INITIALIZER) }),
        )
        .route("/swagger-ui/{*rest}", get(files))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_shown_as_it_is_and_does_nothing() {
        let shown = Shown {
            name: "<script>\"'&{{client_id}}".into(),
            network: "devnet".into(),
            client_id: "8d9de9489b35f40a".into(),
            token: true,
        };
        let index = shown.index();
        assert!(index.contains("<strong>&lt;script&gt;&quot;&#39;&amp;{{client_id}}</strong>"), "{index}");
        assert!(
            index.contains("· devnet · 8d9de948 · vintner</title>")
                && index.contains("data-token=\"needed\"")
        );
        assert_eq!(index.matches("{{").count(), 2, "the name's own, twice");
        let names_places = Shown { name: "{{node}}{{title}}".into(), ..shown.clone() }.index();
        assert!(names_places.contains("<strong>{{node}}{{title}}</strong>"), "{names_places}");
        let index = shown.index_for_strangers();
        assert!(
            index.contains("<title>vintner</title>") && index.contains("data-token=\"needed\""),
            "{index}"
        );
        for of_the_node in ["script&gt;", "devnet", "8d9de948"] {
            assert!(!index.contains(of_the_node), "{of_the_node}: {index}");
        }
    }
}
