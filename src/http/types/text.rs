//! Text of a fixed form in the REST API: ids, keys, hashes, decimals, times. Each has a name in the description, with its pattern, so
//! that the form is said once and programs made from the description share one type.

use super::Time;
use std::borrow::Cow;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{KnownFormat, ObjectBuilder, RefOr, Schema, SchemaFormat, schema::Type},
};

/// Digits, at most one point, and an exponent.
pub(in crate::http) const DECIMAL: &str = "^[0-9]+([.][0-9]+)?([eE][+-]?[0-9]+)?$";

macro_rules! text {
    ($($(#[doc = $doc:literal])+ $name:ident = $pattern:expr, $(as $format:ident,)? such as $example:literal;)*) => {$(
        $(#[doc = $doc])+
        #[derive(Clone, Copy, Debug)]
        pub(in crate::http) struct $name;

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                let doc: &[&str] = &[$($doc),+];
                let text = ObjectBuilder::new()
                    .schema_type(Type::String)
                    .pattern(Some($pattern))
                    .description(Some(doc.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")))
                    .examples([$example]);
                $(let text = text.format(Some(SchemaFormat::KnownFormat(KnownFormat::$format)));)?
                text.into()
            }
        }

        impl ToSchema for $name {
            fn name() -> Cow<'static, str> {
                stringify!($name).into()
            }
        }
    )*};
}

text! {
    /// A UUID. Those of offers, bids and trades are of version 7, so they sort by the time at which they were made.
    Id = "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$", as Uuid,
        such as "01a1fc28-3e5f-7000-80fe-3be73643e1da";
    /// The key of a record in the DHT, where every grape finds it: 40 hex digits.
    Hash = "^[0-9a-f]{40}$", such as "c7bfaa9e790edae0a25f33c5a9808ea0add419cb";
    /// Who a node is: its public key, 64 hex digits.
    ClientKey = "^[0-9a-f]{64}$", such as "8d9de9489b35f40a86bf51addabb0376f642b2d9ccc1780f4ea8ec78f243228c";
    /// Client ids with commas between them, 16 at most.
    ClientKeys = "^[0-9a-f]{64}(,[0-9a-f]{64}){0,15}$", such as "8d9de9489b35f40a86bf51addabb0376f642b2d9ccc1780f4ea8ec78f243228c";
    /// An ed25519 signature: 86 base64url digits.
    SignatureText = "^[A-Za-z0-9_-]{86}$",
        such as "hkwRCkSEYN7G9W3byvBzalmpk2NhmS0IPf_xsJIAQckzgpNUv3FmC7MAOqgzyWF_SyA7Drc3rp9TevUVAm-yAQ";
    /// A decimal, more than 0: no leading zeros, no zeros at the end, at most 8 decimals.
    Decimal = "^(0|[1-9][0-9]{0,11})([.][0-9]{0,7}[1-9])?$", such as "0.5";
    /// What is paid with: 2 to 8 upper-case letters or digits.
    CurrencyCode = "^[A-Z0-9]{2,8}$", such as "USD";
    /// The market: nodes of different networks do not see each other.
    NetworkName = "^[a-z0-9-]{1,32}$", such as "devnet";
    /// An address and a port; IPv6 in brackets.
    Address = r"^([0-9.]+|\[[0-9a-f:.]+(%[0-9]+)?\]):[0-9]{1,5}$", such as "127.0.0.1:1337";
}

// What requests can say; more than answers do.
text! {
    /// An offer's UUID, or its DHT hash of 40 hex digits.
    OfferName = "^([0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}|[0-9a-fA-F]{40})$",
        such as "01a1fc28-3e5f-7000-80fe-3be73643e1da";
    /// A UUID, with its hyphens.
    GivenId = "^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$", as Uuid,
        such as "01a1fc28-3fab-7f41-8a6a-d97467cb1156";
    /// A decimal, more than 0, at most 8 decimals; it may have an exponent.
    AmountText = DECIMAL, such as "64000";
    /// RFC 3339, with its offset; what is below a millisecond is cut.
    GivenTime = "^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]+)?([Zz]|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$",
        as DateTime, such as "2026-11-21T12:00:00Z";
    /// Entity tags (RFC 9110): an `ETag` with its quotes, several with commas, or `*`.
    EntityTags = concat!(
            r#"^([*]|[ \t,]*(W/)?"[!#-~\u0080-\u00ff]*""#,
            r#"([ \t]*,[ \t,]*(W/)?"[!#-~\u0080-\u00ff]*")*[ \t,]*)$"#
        ), such as "\"1795231858271\"";
    /// Visible ASCII, with spaces inside: 1 to 255 bytes.
    IdempotencyText = "^[!-~]([ -~]{0,253}[!-~])?$", such as "order-17";
}

impl PartialSchema for Time {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
            .pattern(Some("^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}[.][0-9]{3}Z$"))
            .description(Some("RFC 3339, UTC, milliseconds."))
            .examples(["2026-11-21T12:00:00.000Z"])
            .into()
    }
}

impl ToSchema for Time {}
