//! Turns the parameters of each peer into its recipe: what the catalogue's policies do, one function each.

use super::recipe::{Gate, Issue, Lists, Recipe, Stays, Sync, SyncAt, Window};
use crate::lane::Lane;
use crate::plan::Unit;
use crate::plan::spec::{Evict, HostMemory};

pub(super) const RESIDENT: Recipe = Recipe::RESIDENT;

/// Loads that the host waits for.
const LOADED: Sync = Sync::new(SyncAt::Arrival, &[Lane::H2d]);

/// The host waits until what a use releases has gone back.
const GONE: Sync = Sync::new(SyncAt::Release, &[Lane::Compute, Lane::D2h]);

/// The host waits for both streams after every unit.
const MET: &[Sync] = &[Sync::new(SyncAt::AfterEvery, &[Lane::Compute, Lane::H2d])];

/// The whole device is synchronised before every streamed unit.
const HALTED: &[Sync] = &[Sync::new(SyncAt::BeforeStreamed, &[Lane::Compute, Lane::H2d])];

pub(super) const SYNC: Recipe =
    Recipe { stays: Stays::Nothing, syncs: &[LOADED], ..Recipe::RESIDENT };

pub(super) fn sglang(p: u64) -> Recipe {
    Recipe { lists: Lists::Each, issue: Issue::Burst(size(p).max(1)), ..Recipe::WINDOW }
}

pub(super) fn sglang_leading(p: u64, r: u64) -> Recipe {
    Recipe { stays: Stays::Leading(size(r)), ..sglang(p) }
}

pub(super) fn sglang_strided(p: u64, r: u64) -> Recipe {
    let issue = Issue::Next(size(p).max(1));
    Recipe { stays: Stays::Strided(size(r)), issue, ..sglang(p) }
}

pub(super) const VLLM_OMNI: Recipe = Recipe::WINDOW;

pub(super) fn fastvideo(r: u64) -> Recipe {
    Recipe {
        lists: Lists::First,
        stays: Stays::Leading(size(r)),
        issue: Issue::Burst(1),
        per_tensor: true,
        ..Recipe::WINDOW
    }
}

pub(super) const FASTVIDEO_FIRST: Recipe = Recipe {
    lists: Lists::Each,
    issue: Issue::Burst(1),
    wraps: false,
    per_tensor: true,
    ..Recipe::WINDOW
};

pub(super) fn diffusers_block(g: u64) -> Recipe {
    Recipe {
        stays: Stays::Nothing,
        root_streams: true,
        issue: Issue::Group(size(g).max(1)),
        group: size(g).max(1),
        evict: Evict::WriteBack,
        per_tensor: true,
        from: HostMemory::Pageable,
        syncs: &[LOADED, GONE],
        ..Recipe::RESIDENT
    }
}

pub(super) const DIFFUSERS_RECORD: Recipe = Recipe {
    root_streams: true,
    wraps: false,
    per_tensor: true,
    syncs: &[Sync::new(SyncAt::BeforeStreamed, &[Lane::H2d])],
    ..Recipe::WINDOW
};

pub(super) const DIFFUSERS_STREAM: Recipe = Recipe {
    syncs: &[
        Sync::new(SyncAt::BeforeStreamed, &[Lane::H2d]),
        Sync::new(SyncAt::AfterStreamed, &[Lane::Compute]),
    ],
    ..DIFFUSERS_RECORD
};

pub(super) const ACCELERATE: Recipe = Recipe {
    unit: Unit::Leaf,
    stays: Stays::Nothing,
    per_tensor: true,
    from: HostMemory::Pageable,
    syncs: &[LOADED],
    ..Recipe::RESIDENT
};

pub(super) fn flexgen(share: u64) -> Recipe {
    Recipe { stays: Stays::Share(share), per_tensor: true, syncs: MET, ..Recipe::WINDOW }
}

pub(super) fn kijai(k: u64, f: u64, blocks: u64) -> Recipe {
    Recipe {
        stays: Stays::Leading(size(blocks.saturating_sub(k))),
        issue: if f == 0 { Issue::OnDemand } else { Issue::Next(size(f)) },
        evict: Evict::WriteBack,
        per_tensor: true,
        from: HostMemory::Pageable,
        syncs: &[LOADED, GONE],
        ..Recipe::RESIDENT
    }
}

pub(super) fn comfy(streams: u64, kept: u64) -> Recipe {
    let streams = size(streams).max(1);
    Recipe {
        unit: Unit::Leaf,
        stays: Stays::Largest(size(kept)),
        gate: Gate::Rotation(streams),
        window: Window::Buffers(streams),
        ..Recipe::RESIDENT
    }
}

pub(super) fn musubi_classic(n: u64, pinned: bool, blocks: u64) -> Recipe {
    let few = 2 * n < blocks;
    let (stays, slots) = match n {
        0 => return Recipe::RESIDENT,
        _ if few => (Stays::Middle(size(n)), n),
        // At least one block computes on the device.
        _ => (Stays::Nothing, blocks.saturating_sub(n).max(1)),
    };
    Recipe {
        stays,
        issue: Issue::WhenFree,
        gate: Gate::slots(slots),
        evict: Evict::Exchange,
        per_tensor: true,
        from: if pinned { HostMemory::Pinned } else { HostMemory::Pageable },
        ..Recipe::WINDOW
    }
}

pub(super) fn musubi_ring(n: u64, buffers: u64) -> Recipe {
    Recipe {
        stays: Stays::Spread(size(n)),
        issue: Issue::WhenFree,
        gate: Gate::slots(buffers),
        window: Window::Buffers(size(buffers).max(1)),
        ..Recipe::WINDOW
    }
}

pub(super) fn mmgp(k: u64, lists: u64) -> Recipe {
    Recipe {
        lists: Lists::Each,
        stays: Stays::Strided(size(k)),
        wraps: lists == 1,
        per_tensor: true,
        syncs: HALTED,
        ..Recipe::WINDOW
    }
}

pub(super) fn nunchaku(k: u64) -> Recipe {
    Recipe {
        lists: Lists::Each,
        stays: Stays::Leading(size(k)),
        issue: Issue::Burst(1),
        window: Window::Buffers(2),
        per_tensor: true,
        ..Recipe::WINDOW
    }
}

pub(super) fn vllm_group(group: u64, streamed: u64, slots: u64) -> Recipe {
    if group == 0 {
        return Recipe::RESIDENT;
    }
    Recipe {
        stays: Stays::GroupHeads { group: size(group), streamed: size(streamed) },
        issue: Issue::WhenFree,
        gate: Gate::slots(slots),
        window: Window::Buffers(size(slots).max(1)),
        per_tensor: true,
        ..Recipe::WINDOW
    }
}

pub(super) fn cachedit(t: u64, p: u64, bins: u64, limit: bool, blocks: u64) -> Recipe {
    let ahead = if limit { t.saturating_mul(4).min(8) } else { blocks };
    Recipe {
        stays: Stays::Spans { count: size(p), bins: size(bins).max(1) },
        issue: Issue::Next(size(ahead)),
        gate: Gate::slots(ahead + 1),
        wraps: false,
        per_tensor: true,
        ..Recipe::WINDOW
    }
}

pub(super) const LIGHTX2V_BLOCK: Recipe = Recipe {
    lists: Lists::Each,
    window: Window::Buffers(2),
    per_tensor: true,
    syncs: MET,
    ..Recipe::WINDOW
};

pub(super) const LIGHTX2V_PHASE: Recipe =
    Recipe { unit: Unit::Phase, window: Window::PerPhase, ..LIGHTX2V_BLOCK };

pub(super) fn torchoffload(r: u64, f: u64, cyclic: bool, blocks: u64) -> Recipe {
    if r >= blocks {
        return Recipe::RESIDENT;
    }
    let pool = r.saturating_add(f);
    Recipe {
        issue: Issue::Next(size(f).max(1)),
        gate: Gate::slots(pool),
        window: Window::Buffers(size(pool).max(1)),
        wraps: cyclic,
        per_tensor: true,
        ..Recipe::WINDOW
    }
}

/// `stage3_param_persistence_threshold` is 1e5 elements, `stage3_max_live_parameters` 1e9; two bytes each.
pub(super) fn zero3(bucket: u64) -> Recipe {
    Recipe {
        unit: Unit::Leaf,
        stays: Stays::Smaller(2 * 100_000),
        issue: Issue::Bucket(2 * bucket.min(1_000_000_000)),
        ..Recipe::RESIDENT
    }
}

fn size(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}
