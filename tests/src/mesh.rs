//! One proxy per ordered pair of regions, reached through `peer.via`: delay and cut each direction as the test likes.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use crate::proxy::Proxy;

/// Node ids beyond the first ones for which links are laid in advance: wiped regions come back under new ids.
const SPARE_NODES: u64 = 4;

/// Links from each region to each node id.
#[derive(Debug)]
pub struct Mesh {
    /// By (region index, node id).
    links: BTreeMap<(usize, u64), Proxy>,
    /// Region of each node id.
    regions: BTreeMap<u64, usize>,
    /// Bytes a second on the links of a region.
    slow: BTreeMap<usize, u64>,
}

impl Mesh {
    /// Lays links from `regions` regions to as many nodes and some spare ones.
    pub async fn lay(regions: usize) -> Mesh {
        let mut links = BTreeMap::new();
        for region in 0..regions {
            for node in 1..=regions as u64 + SPARE_NODES {
                let proxy = Proxy::listen().await.expect("loopback ports are free");
                links.insert((region, node), proxy);
            }
        }
        Mesh { links, regions: BTreeMap::new(), slow: BTreeMap::new() }
    }

    /// What region `from` dials instead of each node.
    pub fn via(&self, from: usize) -> BTreeMap<u64, SocketAddr> {
        let own = self.links.iter().filter(|((region, _), _)| *region == from);
        own.map(|((_, node), proxy)| (*node, proxy.address())).collect()
    }

    /// Says where a node lives.
    pub fn settle(&mut self, node: u64, region: usize, peer: SocketAddr) {
        self.regions.insert(node, region);
        for (_, proxy) in self.links.iter().filter(|((_, known), _)| *known == node) {
            proxy.point_at(peer.to_string());
        }
        if let Some(rate) = self.slow.get(&region) {
            self.around(region).for_each(|proxy| proxy.slow_down(*rate));
        }
    }

    /// Every connection between `region` and the others takes at most so many bytes a second, each way; its nodes to come
    /// included.
    pub fn slow_down(&mut self, region: usize, bytes_per_second: u64) {
        self.slow.insert(region, bytes_per_second);
        self.around(region).for_each(|proxy| proxy.slow_down(bytes_per_second));
    }

    /// Links between two regions, in the direction of who dials.
    fn between(&self, from: usize, to: usize) -> impl Iterator<Item = &Proxy> {
        let leads = move |node: &u64| self.regions.get(node) == Some(&to);
        self.links.iter().filter(move |((region, node), _)| *region == from && leads(node)).map(|(_, proxy)| proxy)
    }

    /// Links that have `region` at one end only.
    fn around(&self, region: usize) -> impl Iterator<Item = &Proxy> {
        let others: Vec<usize> = self.regions.values().copied().filter(|other| *other != region).collect();
        others.into_iter().flat_map(move |other| self.between(region, other).chain(self.between(other, region)))
    }

    /// Every round trip between different regions takes `round_trip`.
    pub fn delay_all(&self, round_trip: Duration) {
        for proxy in self.regions.values().flat_map(|region| self.around(*region)) {
            proxy.delay(round_trip / 2);
        }
    }

    /// A round trip on connections that `from` opens to `to`.
    pub fn delay(&self, from: usize, to: usize, round_trip: Duration) {
        self.between(from, to).for_each(|proxy| proxy.delay(round_trip / 2));
    }

    /// Nothing passes between `region` and the others.
    pub fn cut(&self, region: usize) {
        self.around(region).for_each(Proxy::cut);
    }

    /// Everything passes again, what was held first.
    pub fn heal(&self, region: usize) {
        self.around(region).for_each(Proxy::heal);
    }

    /// Closes every connection between `region` and the others.
    pub fn reset(&self, region: usize) {
        self.around(region).for_each(Proxy::reset);
    }
}
