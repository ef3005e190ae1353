//! Swagger UI, as this node shows it: which node it is, no locks where no token is needed, errors folded. All of it is built into the
//! program, nothing is fetched from anywhere, and every address is relative, so that it works under a proxy's prefix.

use super::openapi_json;
use axum::{
    Router,
    extract::Path,
    http::{HeaderValue, StatusCode, header},
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
    /// Whether the API wants a token.
    pub(in crate::http::api) token: bool,
}

impl Shown {
    fn index(&self) -> String {
        let short_id = self.client_id.get(..SHORT_ID_DIGITS).unwrap_or_default();
        INDEX
            .replace("{{network}}", &escaped(&self.network))
            .replace("{{short_id}}", &escaped(short_id))
            .replace("{{client_id}}", &escaped(&self.client_id))
            .replace("{{token}}", if self.token { "needed" } else { "none" })
            // Last, since an owner may call a node anything.
            .replace("{{name}}", &escaped(&self.name))
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
    let index: Arc<str> = shown.index().into();
    let config: Arc<Config<'static>> = Arc::new(Config::default());
    let page = move || async move { typed("text/html; charset=utf-8", index.to_string()) };
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
    }
}
