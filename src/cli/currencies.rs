//! Currency codes that are widely known, and those that are one slip of a finger away from one.
//!
//! A node trades in any code, since traders may agree on any. On the command line `UDS` is more likely a slip than a currency.

use crate::market::Currency;

/// ISO 4217's list one of active currencies, without funds, metals and codes for testing; and what is traded against bitcoin most.
const KNOWN: &str = "AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF \
    CHF CLP CNY COP CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GNF GTQ GYD HKD HNL HTG HUF IDR \
    ILS INR IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW KWD KYD KZT LAK LBP LKR LRD LSL LYD MAD MDL MGA MKD MMK MNT MOP MRU \
    MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN PGK PHP PKR PLN PYG QAR RON RSD RUB RWF SAR SBD SCR SDG SEK SGD \
    SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TND TOP TRY TTD TWD TZS UAH UGX USD UYU UZS VED VES VND VUV WST XAF XCD XCG \
    XOF XPF YER ZAR ZMW ZWG CNH XAU XAG \
    ADA ALGO ARB ATOM AVAX BCH BNB DAI DASH DOGE DOT ETC ETH EURC EURT FDUSD FIL LINK LTC MATIC NEAR OP PAXG POL PYUSD SHIB SOL \
    SUI TON TRX TUSD UNI USDC USDD USDE USDP USDT XAUT XLM XMR XRP XTZ ZEC";

/// How many are suggested.
const SUGGESTED_MAX: usize = 3;

/// The known codes that `code` may have been meant to be: none when it is known itself, or like none of them.
pub(crate) fn meant(code: Currency) -> Vec<&'static str> {
    let code = code.as_str();
    if KNOWN.split_whitespace().any(|known| known == code) {
        return Vec::new();
    }
    let mut near: Vec<_> = KNOWN
        .split_whitespace()
        .filter_map(|known| Some((place(slip(code, known)?, known), known)))
        .collect();
    near.sort_unstable();
    near.into_iter().take(SUGGESTED_MAX).map(|(_, known)| known).collect()
}

/// Swapped letters come first, then what is traded most, then the likelier slip.
fn place(slip: u8, code: &str) -> (bool, usize, u8) {
    const FIRST: [&str; 8] = ["USD", "EUR", "USDT", "GBP", "JPY", "CHF", "USDC", "ETH"];
    let rank = FIRST.iter().position(|first| *first == code).unwrap_or(FIRST.len());
    (slip > 0, rank, slip)
}

/// Which single slip makes `typed` of `meant`, the likeliest the lowest: two letters swapped, one wrong, one missing or too many.
fn slip(typed: &str, meant: &str) -> Option<u8> {
    let (typed, meant) = (typed.as_bytes(), meant.as_bytes());
    let same = typed.iter().zip(meant).take_while(|(t, m)| t == m).count();
    match (&typed[same..], &meant[same..]) {
        ([first, second, rest @ ..], [one, two, others @ ..])
            if (first, second) == (two, one) && rest == others =>
        {
            Some(0)
        }
        ([_, rest @ ..], [_, others @ ..]) if rest == others => Some(1),
        ([_, rest @ ..], all) if rest == all => Some(2),
        (all, [_, others @ ..]) if all == others => Some(2),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(code: &str) -> Vec<&'static str> {
        meant(code.parse().unwrap())
    }

    #[test]
    fn a_slip_of_the_finger_is_seen_and_what_was_meant_named_first() {
        for (typed, meant) in [
            ("UDS", "USD"),
            ("USDD1", "USDD"),
            ("ERU", "EUR"),
            ("US", "USD"),
            ("EURO", "EUR"),
            ("GPB", "GBP"),
            ("UST", "USD"),
        ] {
            assert_eq!(of(typed).first(), Some(&meant), "{typed}: {:?}", of(typed));
        }
        assert!(of("USX").len() <= SUGGESTED_MAX);
    }

    #[test]
    fn what_is_known_and_what_is_like_nothing_passes() {
        for code in ["USD", "USDT", "JPY", "XMR", "POINTS", "GOLDBAR", "HOURS"] {
            assert!(of(code).is_empty(), "{code}: {:?}", of(code));
        }
    }

    #[test]
    fn every_known_code_is_a_currency_code_once() {
        let mut codes: Vec<Currency> = KNOWN.split_whitespace().map(|code| code.parse().unwrap()).collect();
        let all = codes.len();
        codes.sort_unstable();
        codes.dedup();
        assert!(codes.len() == all && all > 180, "{all}");
    }
}
