//! Turns the image tokens of a workload into one rank's part of them.
//!
//! As engines run Ulysses: every rank has all weights and all text tokens, and a part of the image tokens; inside an
//! attention it has some heads of all tokens. So heads must divide evenly; tokens need not, they are padded or the last
//! rank has fewer.

use super::{Kind, Whole, refused, tensor};
use crate::error::{Error, Result};
use crate::units::Bytes;
use crate::workload::{self, Seen, Share};

/// Refuses components without image tokens, heads that do not divide, and ranks without a token.
pub(super) fn check(whole: &Whole, ranks: u32) -> Result<()> {
    for component in whole.components() {
        let seen = Seen::new(whole.manifest, component, whole.workload)?;
        if !seen.is_sequence() {
            let (name, class) = (&component.name, component.class.as_deref().unwrap_or("none"));
            return Err(Error::Usage {
                message: format!(
                    "--shard sp divides image tokens; {name} (class {class}) has none that are known"
                ),
                hint: Some("take --shard tp or hsdp, or another --component".to_owned()),
            });
        }
        let tokens = seen.image();
        let heads = tensor::heads(whole, component);
        let fine = |ranks: u32| {
            u64::from(ranks) <= tokens
                && heads.iter().all(|(_, heads)| heads % u64::from(ranks) == 0)
        };
        let uneven = heads.iter().find(|(_, heads)| heads % u64::from(ranks) != 0);
        if let Some((name, heads)) = uneven {
            let why = format!("the {heads} heads of {name} do not divide evenly");
            return Err(refused(ranks, Kind::Sp, &why, fine));
        }
        if u64::from(ranks) > tokens {
            let why = format!("{} has {tokens} image tokens", component.name);
            return Err(refused(ranks, Kind::Sp, &why, fine));
        }
    }
    Ok(())
}

/// The part that this rank computes; equal for ranks whose parts are as long.
pub(super) fn share(whole: &Whole, ranks: u64, number: u64) -> Result<Share> {
    let mut counts = Vec::new();
    for component in whole.components() {
        counts.push(Seen::new(whole.manifest, component, whole.workload)?.image());
    }
    let lengths = |rank: u64| counts.iter().map(move |&count| Share::part(count, ranks, rank));
    let first = (0..number).find(|&rank| lengths(rank).eq(lengths(number)));
    Ok(Share { tokens: ranks, rank: first.unwrap_or(number), ..Share::WHOLE })
}

/// The activations of a rank: what grows with the tokens, for its own tokens.
pub(super) fn activations(whole: &Whole, share: Share, all: Bytes) -> Result<Bytes> {
    let mut most = Bytes::ZERO;
    for component in whole.components() {
        let seen = Seen::new(whole.manifest, component, whole.workload)?;
        let (image, text) = (seen.image(), seen.text());
        let own = Share::part(image, share.tokens, share.rank);
        let (from, to) = (u128::from(image + text), u128::from(own + text));
        most = most.max(workload::scaled_activations(all, from, to));
    }
    Ok(most)
}
