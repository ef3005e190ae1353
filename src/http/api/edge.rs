//! What every request passes on its way in and out, known path or not.
//!
//! In: who may ask at all (`guard`), then whether the operation takes such a request: JSON where it changes something, no parameter in
//! the query where none is described. Out: the form of errors, headers for browsers, the count.

use super::{
    fields::Fields,
    guard::{self, Guard},
    metrics::Meter,
    problem::{self, Problem},
};
use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderName, HeaderValue, Method, header, request::Parts},
    middleware::Next,
    response::{IntoResponse, Response},
};
use std::{sync::Arc, time::Instant};
use utoipa::openapi::{
    OpenApi, RefOr,
    path::{Parameter, ParameterIn},
};

/// What every request passes.
pub(super) struct Edge {
    guard: Guard,
    meter: Arc<Meter>,
    operations: Vec<Operation>,
}

/// What the description says of a route and a method, so that it is so.
#[derive(Debug, PartialEq, Eq)]
struct Operation {
    route: String,
    method: Method,
    /// Whether it has parameters in its query; it reads them itself, and refuses what it does not know.
    reads_query: bool,
}

impl Edge {
    pub(super) fn new(guard: Guard, meter: Arc<Meter>, description: &OpenApi) -> Self {
        let operations = description.paths.paths.iter().flat_map(|(route, item)| {
            let methods = [
                (Method::GET, &item.get),
                (Method::POST, &item.post),
                (Method::PUT, &item.put),
                (Method::PATCH, &item.patch),
                (Method::DELETE, &item.delete),
            ];
            methods.into_iter().filter_map(|(method, described)| {
                let in_query = |parameter: &RefOr<Parameter>| match parameter {
                    RefOr::T(parameter) => parameter.parameter_in == ParameterIn::Query,
                    RefOr::Ref(_) => false,
                };
                let reads_query = described.as_ref()?.parameters.iter().flatten().any(in_query);
                Some(Operation { route: route.clone(), method, reads_query })
            })
        });
        Self { guard, meter, operations: operations.collect() }
    }

    /// Whether the request may go on to its handler.
    fn check(&self, request: &Parts) -> Result<(), Problem> {
        self.guard.check(request)?;
        let route = request.extensions.get::<MatchedPath>().map_or("", MatchedPath::as_str);
        let method = if request.method == Method::HEAD { &Method::GET } else { &request.method };
        let operation = self.operations.iter().find(|known| known.route == route && known.method == *method);
        // Where there is nothing, the answer is 404 or 405, whatever was sent.
        let Some(operation) = operation else { return Ok(()) };
        guard::check_content_type(request)?;
        if !operation.reads_query {
            Fields::of_query(request.uri.query().unwrap_or_default())?.finish()?;
        }
        Ok(())
    }
}

/// Around every request, known path or not: the guard before it; the headers, the form of errors and the count after it.
pub(super) async fn pass(State(edge): State<Arc<Edge>>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let (mut parts, body) = request.into_parts();
    if let Some(stranger) = edge.guard.stranger(&parts.headers) {
        parts.extensions.insert(stranger);
    }
    let row = edge.meter.row(&parts);
    let (method, path) = (parts.method.clone(), parts.uri.path().to_owned());
    let response = match edge.check(&parts) {
        Ok(()) => next.run(Request::from_parts(parts, body)).await,
        Err(problem) => problem.into_response(),
    };
    let mut response = problem::ensure(response, &method, &path);
    let headers = response.headers_mut();
    for (name, value) in SECURITY_HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if !path.starts_with("/swagger-ui") {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    edge.meter.count(row, response.status(), started.elapsed());
    response
}

/// What browsers may do with answers: show Swagger UI, and nothing that another site could use. Swagger UI needs its inline
/// styles and `data:` images; its scripts are files.
const SECURITY_HEADERS: [(HeaderName, &str); 5] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
         connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];
