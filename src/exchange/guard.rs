//! The owner's guard against a slip of the finger: offers and bids above an amount of money are refused by the owner's own node.

use super::{CommandError, Core};
use crate::{
    amount::{Price, Quantity, SCALE},
    market::Currency,
};
use std::{collections::BTreeMap, fmt, str::FromStr};

/// The most that one offer or bid may be worth, quantity times price; nothing by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MaxNotional {
    others: Option<Price>,
    of: BTreeMap<Currency, Price>,
}

/// One entry of it: `100000` for every currency that has none of its own, or `JPY=15000000`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxNotionalEntry {
    /// `None`: all others.
    pub currency: Option<Currency>,
    /// In that currency.
    pub most: Price,
}

impl FromStr for MaxNotionalEntry {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (currency, most) = match text.split_once('=') {
            Some((currency, most)) => {
                let currency: Currency = currency.parse().map_err(|error| format!("{currency:?} {error}"))?;
                (Some(currency), most)
            }
            None => (None, text),
        };
        let most = most.parse().map_err(|error| format!("{most:?} {error}"))?;
        Ok(Self { currency, most })
    }
}

impl fmt::Display for MaxNotionalEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.currency {
            Some(currency) => write!(f, "{currency}={}", self.most),
            None => write!(f, "{}", self.most),
        }
    }
}

impl FromIterator<MaxNotionalEntry> for MaxNotional {
    fn from_iter<I: IntoIterator<Item = MaxNotionalEntry>>(entries: I) -> Self {
        let mut all = Self::default();
        for MaxNotionalEntry { currency, most } in entries {
            match currency {
                Some(currency) => _ = all.of.insert(currency, most),
                None => all.others = Some(most),
            }
        }
        all
    }
}

impl MaxNotional {
    fn check(&self, quantity: Quantity, price: Price, currency: Currency) -> Result<(), CommandError> {
        let Some(most) = self.of.get(&currency).copied().or(self.others) else { return Ok(()) };
        // 21,000,000 BTC at the highest price are 2.1e34 of these units: they fit.
        let worth = u128::from(quantity.units()) * u128::from(price.units());
        if worth <= u128::from(most.units()) * 10u128.pow(SCALE) {
            return Ok(());
        }
        Err(CommandError::AboveMaxNotional { quantity, price, currency, most })
    }
}

impl Core {
    /// Refuses from now on what is worth more.
    pub fn guard_by(&mut self, max_notional: MaxNotional) {
        self.max_notional = max_notional;
    }

    pub(super) fn may_be_worth(
        &self,
        quantity: Quantity,
        price: Price,
        currency: Currency,
    ) -> Result<(), CommandError> {
        self.max_notional.check(quantity, price, currency)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::{
        Input, NewBid, OfferRef, ReplyTo, Seen,
        testing::{Bench, MINUTE, new_offer, reply},
    };
    use crate::market::Via;

    fn guard(entries: &[&str]) -> MaxNotional {
        entries.iter().map(|entry| entry.parse::<MaxNotionalEntry>().unwrap()).collect()
    }

    #[test]
    fn an_entry_is_an_amount_or_a_currency_and_an_amount() {
        for text in ["100000", "JPY=15000000.5"] {
            assert_eq!(text.parse::<MaxNotionalEntry>().unwrap().to_string(), text);
        }
        for bad in ["", "USD", "USD=", "=5", "usd=5", "0", "USD=-1"] {
            assert!(bad.parse::<MaxNotionalEntry>().is_err(), "{bad}");
        }
    }

    #[test]
    fn worth_is_quantity_times_price_and_the_limit_itself_is_allowed() {
        let guard = guard(&["100", "JPY=1000"]);
        let fits = |quantity: &str, price: &str, currency: &str| {
            let (quantity, price) = (quantity.parse().unwrap(), price.parse().unwrap());
            guard.check(quantity, price, currency.parse().unwrap()).is_ok()
        };
        assert!(fits("2", "50", "USD") && fits("0.00000001", "100000000000", "JPY"));
        assert!(!fits("2", "50.00000001", "USD") && !fits("21000000", "100000000000", "EUR"));
        assert!(fits("2", "500", "JPY") && !fits("2", "501", "JPY"));
        assert!(MaxNotional::default().check("21000000".parse().unwrap(), Price::MAX, Currency::USD).is_ok());
    }

    #[test]
    fn neither_an_offer_nor_a_bid_above_it_is_made_and_a_better_price_counts() {
        let (mut maker, mut node) = (Bench::new(1), Bench::new(2));
        node.core.guard_by(guard(&["100"]));
        let mut new = new_offer();
        new.terms.btc_quantity = "1.1".parse().unwrap();
        let output = node.give(Input::Create { new, idempotency: None, reply: ReplyTo(0) });
        assert!(matches!(reply(&output), Err(CommandError::AboveMaxNotional { .. })));
        assert!(output.events.is_empty());
        let offer = maker.create();
        node.give(Input::Record(offer.clone(), Via::Dht));
        let bid = |price: &str| Input::PlaceBid {
            new: NewBid {
                offer: OfferRef::Id(offer.id),
                price: Some(price.parse().unwrap()),
                seen: Seen::default(),
                valid_for: MINUTE,
            },
            wait: MINUTE,
            idempotency: None,
            reply: ReplyTo(0),
        };
        assert!(matches!(reply(&node.give(bid("100.1"))), Err(CommandError::AboveMaxNotional { .. })));
        assert_eq!(node.give(bid("100")).events.len(), 1);
    }
}
