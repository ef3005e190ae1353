//! The API's description as a contract: every request that was taken and every answer is held against it.
//!
//! Stricter than the description is for callers: an answer may hold no field that is not described, and a problem's code must be one
//! that the description names for its operation and status. So nothing is served that is not written down.

#![allow(dead_code, unreachable_pub, reason = "each test uses its part")]

use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use jsonschema::Validator;
use serde_json::{Value, json};
use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, LazyLock, Mutex},
};
use vintner::http::api::openapi_json;

/// What the node's own tests hold everything against.
pub static OURS: LazyLock<Contract> =
    LazyLock::new(|| Contract::of(serde_json::from_str(openapi_json()).unwrap()));

const PROBLEM_JSON: &str = "application/problem+json";
/// Paths that are served and are not part of the API: where it is described and tried.
const BESIDE: [&str; 3] = ["/", "/api/openapi.json", "/swagger-ui"];
/// Answers to requests that were never understood; every other answer means that the request was read and found right.
const NOT_UNDERSTOOD: [u16; 8] = [400, 401, 403, 405, 408, 413, 415, 422];

/// One request and its answer.
#[derive(Clone, Debug)]
pub struct Exchange {
    pub method: Method,
    pub uri: Uri,
    pub sent: HeaderMap,
    pub request: Vec<u8>,
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub answer: Vec<u8>,
}

/// A description, and the validators of its schemas.
pub struct Contract {
    description: Value,
    /// As the description, and every object of an answer closed.
    strict: Value,
    validators: Mutex<HashMap<(bool, String), Arc<Validator>>>,
}

fn is_beside(path: &str) -> bool {
    BESIDE.contains(&path) || path.starts_with("/swagger-ui/")
}

/// A name as it stands in a JSON pointer.
fn token(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

/// Collects the names of the schemas that others are put together from: these cannot be closed by themselves.
fn parts_of_others(value: &Value, parts: &mut BTreeSet<String>) {
    for part in value["allOf"].as_array().into_iter().flatten() {
        parts.extend(part["$ref"].as_str().and_then(|name| name.rsplit('/').next()).map(str::to_owned));
    }
    match value {
        Value::Object(object) => object.values().for_each(|value| parts_of_others(value, parts)),
        Value::Array(array) => array.iter().for_each(|value| parts_of_others(value, parts)),
        _ => {}
    }
}

impl Contract {
    pub fn of(description: Value) -> Self {
        let mut strict = description.clone();
        let mut parts = BTreeSet::new();
        parts_of_others(&description["components"]["schemas"], &mut parts);
        for (name, schema) in strict["components"]["schemas"].as_object_mut().unwrap() {
            let has_fields = schema.get("properties").is_some() || schema.get("allOf").is_some();
            if has_fields && !parts.contains(name) {
                schema["unevaluatedProperties"] = false.into();
            }
        }
        Self { description, strict, validators: Mutex::default() }
    }

    /// What of the exchange is not as described.
    pub fn check(&self, exchange: &Exchange) -> Result<(), String> {
        let path = exchange.uri.path();
        let is_error = exchange.status.is_client_error() || exchange.status.is_server_error();
        if is_error && exchange.method != Method::HEAD {
            self.check_problem(exchange)?;
        }
        let Some((template, id)) = self.template(path) else {
            let nothing = [400, 401, 403, 404, 405].contains(&exchange.status.as_u16());
            return if is_beside(path) || nothing { Ok(()) } else { Err(format!("{path} is not described")) };
        };
        // A HEAD is the GET that it asks about, without the body.
        let method = if exchange.method == Method::HEAD {
            "get".into()
        } else {
            exchange.method.as_str().to_lowercase()
        };
        let operation = format!("/paths/{}/{method}", token(&template));
        if self.description.pointer(&operation).is_none() {
            // Who may not ask at all is told that first.
            let refused = [401, 403, 405].contains(&exchange.status.as_u16());
            return if refused { Ok(()) } else { Err(format!("{method} {template} is not described")) };
        }
        if !NOT_UNDERSTOOD.contains(&exchange.status.as_u16()) {
            self.check_request(&operation, exchange, id.as_deref())?;
        }
        self.check_answer(&operation, exchange)
    }

    /// The described path that this is, and what stands for its `{id}`.
    fn template(&self, path: &str) -> Option<(String, Option<String>)> {
        let given: Vec<&str> = path.split('/').collect();
        let fits = |template: &str| {
            let parts: Vec<&str> = template.split('/').collect();
            let mut id = None;
            let same = parts.len() == given.len()
                && parts.iter().zip(&given).all(|(part, given)| {
                    if part.starts_with('{') {
                        id = Some((*given).to_owned());
                        !given.is_empty()
                    } else {
                        part == given
                    }
                });
            same.then_some(id)
        };
        let paths = self.description["paths"].as_object().unwrap();
        paths.keys().find_map(|template| Some((template.clone(), fits(template)?)))
    }

    fn check_problem(&self, exchange: &Exchange) -> Result<(), String> {
        let kind = exchange.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        if kind != Some(PROBLEM_JSON) {
            return Err(format!("an error of type {kind:?}"));
        }
        let problem = parsed(&exchange.answer)?;
        if problem["status"] != exchange.status.as_u16() {
            return Err("the problem's status is not the answer's".into());
        }
        self.validate(true, "/components/schemas/ProblemView", &problem)
    }

    fn check_request(&self, operation: &str, exchange: &Exchange, id: Option<&str>) -> Result<(), String> {
        let parameters = self.description.pointer(&format!("{operation}/parameters"));
        let parameters: Vec<&Value> = parameters.and_then(Value::as_array).into_iter().flatten().collect();
        let query = exchange.uri.query().unwrap_or_default();
        let query: Vec<(String, String)> =
            axum::extract::Query::try_from_uri(&format!("/?{query}").parse().unwrap()).unwrap().0;
        for (name, _) in &query {
            if !parameters.iter().any(|parameter| parameter["in"] == "query" && parameter["name"] == **name) {
                return Err(format!("the parameter {name} of the query is not described, and was taken"));
            }
        }
        for (n, parameter) in parameters.iter().enumerate() {
            let name = parameter["name"].as_str().unwrap();
            let lines =
                exchange.sent.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
            let given: Option<String> = match parameter["in"].as_str().unwrap() {
                "path" => id.map(str::to_owned),
                "query" => query.iter().find(|(given, _)| given == name).map(|(_, value)| value.clone()),
                _ => Some(lines.collect::<Vec<_>>().join(", ")).filter(|_| exchange.sent.contains_key(name)),
            };
            match given {
                None if parameter["required"] == true => {
                    return Err(format!("{name} is required, and was not sent"));
                }
                None => {}
                Some(given) => {
                    let value = self.coerced(&parameter["schema"], given);
                    self.validate(false, &format!("{operation}/parameters/{n}/schema"), &value)
                        .map_err(|error| format!("{name}, which was taken: {error}"))?;
                }
            }
        }
        let content = format!("{operation}/requestBody/content/application~1json/schema");
        if !exchange.request.is_empty() && self.description.pointer(&content).is_some() {
            let body = parsed(&exchange.request)?;
            self.validate(false, &content, &body)
                .map_err(|error| format!("the body, which was taken: {error}"))?;
        }
        Ok(())
    }

    /// The value that the text of a parameter means.
    fn coerced(&self, schema: &Value, text: String) -> Value {
        let schema = match schema["$ref"].as_str() {
            Some(reference) => self.description.pointer(&reference[1..]).unwrap(),
            None => schema,
        };
        match schema["type"].as_str() {
            Some("integer" | "boolean" | "number") => {
                serde_json::from_str(&text).unwrap_or(Value::String(text))
            }
            _ => Value::String(text),
        }
    }

    fn check_answer(&self, operation: &str, exchange: &Exchange) -> Result<(), String> {
        let status = exchange.status.as_u16();
        let here = format!("{operation}/responses/{status}");
        let Some(response) = self.description.pointer(&here) else {
            return Err(format!("status {status} is not described"));
        };
        for (name, header) in response["headers"].as_object().into_iter().flatten() {
            match exchange.headers.get(name) {
                None if header["required"] == true => return Err(format!("the header {name} is missing")),
                None => {}
                Some(value) => {
                    let value = self.coerced(&header["schema"], value.to_str().unwrap().to_owned());
                    self.validate(true, &format!("{here}/headers/{}/schema", token(name)), &value)
                        .map_err(|error| format!("the header {name}: {error}"))?;
                }
            }
        }
        let kind = exchange.headers.get(header::CONTENT_TYPE).map(|kind| kind.to_str().unwrap_or_default());
        let essence = kind.unwrap_or_default().split(';').next().unwrap_or_default().trim();
        let Some(contents) = response["content"].as_object() else {
            return if exchange.answer.is_empty() {
                Ok(())
            } else {
                Err("a body that is not described".into())
            };
        };
        let Some(content) = contents.get(essence) else {
            return Err(format!("content of type {essence:?} is not described"));
        };
        if exchange.method == Method::HEAD {
            return Ok(());
        }
        let body = match essence {
            "text/plain" => {
                Value::String(String::from_utf8(exchange.answer.clone()).map_err(|error| error.to_string())?)
            }
            _ => parsed(&exchange.answer)?,
        };
        if essence == PROBLEM_JSON
            && content["examples"].get(body["code"].as_str().unwrap_or_default()).is_none()
        {
            return Err(format!("the code {} is not described for status {status}", body["code"]));
        }
        self.validate(true, &format!("{here}/content/{}/schema", token(essence)), &body)
    }

    /// Whether a value fits the schema at this place.
    fn validate(&self, strict: bool, place: &str, value: &Value) -> Result<(), String> {
        let known = self.validators.lock().unwrap().get(&(strict, place.to_owned())).cloned();
        let validator = match known {
            Some(validator) => validator,
            None => {
                // Within the whole description, so that references lead somewhere.
                let mut schema = if strict { &self.strict } else { &self.description }.clone();
                schema["allOf"] = json!([schema.pointer(place)]);
                let options = jsonschema::options()
                    .with_draft(jsonschema::Draft::Draft202012)
                    .should_validate_formats(true);
                let made = Arc::new(options.build(&schema).map_err(|error| format!("{place}: {error}"))?);
                self.validators.lock().unwrap().insert((strict, place.to_owned()), Arc::clone(&made));
                made
            }
        };
        let errors: Vec<String> = validator
            .iter_errors(value)
            .map(|error| format!("{} at {:?}", error, error.instance_path().to_string()))
            .collect();
        if errors.is_empty() { Ok(()) } else { Err(format!("{place}: {}", errors.join("; "))) }
    }
}

fn parsed(body: &[u8]) -> Result<Value, String> {
    serde_json::from_slice(body).map_err(|error| format!("{error}: {:?}", String::from_utf8_lossy(body)))
}
