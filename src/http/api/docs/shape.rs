//! What the annotations of handlers and types cannot say, or say wrongly, put right in the whole description.

use serde_json::{Map, Value, json};

/// The lists and the length of their cursors, in hex digits. A cursor of another list is refused.
const CURSORS: [(&str, usize); 4] =
    [("list_offers", 96), ("list_bids", 104), ("list_own_bids", 122), ("list_trades", 56)];

/// Where `Page<View>` stands among the schemas, each with its entry.
fn pages(schemas: &Map<String, Value>) -> Vec<(String, String)> {
    let entry = |name: &String| name.strip_prefix("Page_").map(str::to_owned);
    schemas.keys().filter_map(|name| Some((name.clone(), entry(name)?))).collect()
}

/// Puts the schemas right: pages refer to their entries instead of repeating them, under names that read well (`OfferPage`), and what
/// an answer leaves out is never `null`.
pub(super) fn schemas(description: &mut Value) {
    let Some(schemas) = description["components"]["schemas"].as_object_mut() else { return };
    let mut renamed = Vec::new();
    for (old, entry) in pages(schemas) {
        let new = format!("{}Page", entry.strip_suffix("View").unwrap_or(&entry));
        let Some(mut page) = schemas.remove(&old) else { continue };
        page["properties"]["items"]["items"] = json!({ "$ref": reference(&entry) });
        schemas.insert(new.clone(), page);
        renamed.push((reference(&old), reference(&new)));
    }
    for (_, schema) in schemas.iter_mut().filter(|(name, _)| !name.ends_with("Body")) {
        drop_nulls(schema);
    }
    rename(description, &renamed);
}

fn reference(schema: &str) -> String {
    format!("#/components/schemas/{schema}")
}

fn rename(value: &mut Value, names: &[(String, String)]) {
    match value {
        Value::Object(object) => object.values_mut().for_each(|value| rename(value, names)),
        Value::Array(array) => array.iter_mut().for_each(|value| rename(value, names)),
        Value::String(text) => {
            if let Some((_, new)) = names.iter().find(|(old, _)| old == text) {
                text.clone_from(new);
            }
        }
        _ => {}
    }
}

/// Optional properties of an answer are left out; only those that are required can be `null`.
fn drop_nulls(schema: &mut Value) {
    for part in schema.get_mut("allOf").and_then(Value::as_array_mut).into_iter().flatten() {
        drop_nulls(part);
    }
    let required = schema["required"].clone();
    let is_required = |name: &String| required.as_array().is_some_and(|names| names.contains(&json!(name)));
    let properties = schema.get_mut("properties").and_then(Value::as_object_mut);
    for (name, property) in properties.into_iter().flatten() {
        if !is_required(name) {
            drop_null(property);
        }
    }
}

/// A schema without its `null`.
fn drop_null(schema: &mut Value) {
    if let Some(kinds) = schema.get_mut("type").and_then(Value::as_array_mut) {
        kinds.retain(|kind| kind != "null");
        if let [kind] = kinds.as_slice() {
            schema["type"] = kind.clone();
        }
    }
    if let Some(choices) = schema.get_mut("oneOf").and_then(Value::as_array_mut) {
        choices.retain(|choice| choice["type"] != "null");
        if let [choice] = choices.as_mut_slice() {
            *schema = choice.take();
        }
    }
}

/// Puts the parameters of one operation right: `null` cannot be said in a header or a query, and a cursor is one of this list's.
pub(super) fn parameters(operation: &mut Value) {
    let id = operation["operationId"].as_str().unwrap_or_default().to_owned();
    for parameter in operation.get_mut("parameters").and_then(Value::as_array_mut).into_iter().flatten() {
        let schema = &mut parameter["schema"];
        drop_null(schema);
        if schema["type"].is_null()
            && let Some(schema) = schema.as_object_mut()
        {
            schema.remove("type");
        }
        if parameter["name"] == "cursor"
            && let Some((_, digits)) = CURSORS.iter().find(|(list, _)| *list == id)
        {
            parameter["schema"]["pattern"] = format!("^[0-9a-f]{{{digits}}}$").into();
        }
    }
}

/// The headers that an answer is described with are there unless it is said otherwise; what holds an address or a version has its form.
pub(super) fn headers(operation: &mut Value) {
    for response in operation["responses"].as_object_mut().into_iter().flat_map(Map::values_mut) {
        for (name, header) in response.get_mut("headers").and_then(Value::as_object_mut).into_iter().flatten()
        {
            if header["required"].is_null() {
                header["required"] = true.into();
            }
            let pattern = match name.as_str() {
                "ETag" => "^\"[0-9]+\"$",
                "Location" => "^/api/v1/[a-z]+/[0-9a-f-]{36}$",
                _ => continue,
            };
            header["schema"]["pattern"] = pattern.into();
        }
    }
}
