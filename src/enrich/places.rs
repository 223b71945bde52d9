//! From addresses to what is known of the places where they are.

use super::column::Texts;
use super::files::Tables;
use super::networks::Attributes;
use crate::columns::{Batch, ColumnView, Family};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Addresses of IPv4 that are remembered.
const V4: usize = 1 << 18;
/// Addresses of IPv6 that are remembered.
const V6: usize = 1 << 16;
/// Different places at most: beyond them all start anew.
const PLACES: usize = 1 << 18;
/// Databases that places can be told apart by.
pub(super) const DATABASES: usize = 4;

/// A text that a place can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attribute {
    Country,
    AsName,
    Net,
    Site,
    City,
}

const ATTRIBUTES: usize = 5;

/// What is known of a place: numbers of texts, and an AS.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    texts: [u32; ATTRIBUTES],
    number: Option<u32>,
}

/// Where an address stands in each of the tables.
type Key = [u32; 1 + DATABASES];

/// All places that were met, each with a number. 0 is nowhere.
#[derive(Debug, Default)]
pub(super) struct Places {
    by_key: HashMap<Key, u32, foldhash::fast::RandomState>,
    all: Vec<Place>,
    // Which attributes any of them has.
    has: [bool; ATTRIBUTES],
    has_number: bool,
    v4: Vec<(u32, u32)>,
    v6: Vec<([u8; 16], u32)>,
}

/// In the caches, places count from 1: 0 is an entry that nothing was put into.
const EMPTY: u32 = 0;

impl Places {
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    /// The text of a place; 0 where it has none.
    #[inline]
    pub(super) fn text(&self, place: u32, attribute: Attribute) -> u32 {
        self.all.get(place as usize).map_or(0, |p| p.texts[attribute as usize])
    }

    /// The AS of a place.
    #[inline]
    pub(super) fn number(&self, place: u32) -> Option<u32> {
        self.all.get(place as usize).and_then(|p| p.number)
    }

    pub(super) fn may_have(&self, attribute: Attribute) -> bool {
        self.has[attribute as usize]
    }

    pub(super) fn may_have_as(&self) -> bool {
        self.has_number
    }

    /// The place of each row of a batch, by the address of the family that comes first in its template.
    pub(super) fn find(
        &mut self,
        batch: &Batch,
        v4: &str,
        v6: &str,
        tables: &Tables,
        texts: &mut Texts,
        to: &mut Vec<u32>,
    ) {
        if self.all.is_empty() || self.all.len() >= PLACES {
            self.forget();
            self.all.push(Place::default());
            (self.v4, self.v6) = (vec![(0, EMPTY); V4], vec![([0; 16], EMPTY); V6]);
        }
        to.clear();
        to.resize(batch.rows(), 0);
        let (v4, v6) = (batch.column(v4), batch.column(v6));
        let order = match batch.layout().first_family() {
            Family::V4 => [v6, v4],
            Family::V6 => [v4, v6],
        };
        // What is written last counts.
        for column in order.into_iter().flatten() {
            match column.values {
                ColumnView::Ip4(addresses) if column.validity.is_none() => {
                    for (place, &address) in to.iter_mut().zip(addresses) {
                        *place = self.of_v4(address, tables, texts);
                    }
                }
                ColumnView::Ip4(addresses) => {
                    for (row, (place, &address)) in to.iter_mut().zip(addresses).enumerate() {
                        if column.is_valid(row) {
                            *place = self.of_v4(address, tables, texts);
                        }
                    }
                }
                ColumnView::Ip6(addresses) => {
                    for (row, (place, address)) in to.iter_mut().zip(addresses).enumerate() {
                        if column.is_valid(row) {
                            *place = self.of_v6(address, tables, texts);
                        }
                    }
                }
                _ => {}
            }
        }
    }

    #[inline]
    fn of_v4(&mut self, address: u32, tables: &Tables, texts: &mut Texts) -> u32 {
        let slot = (address.wrapping_mul(0x9e37_79b1) >> (32 - V4.trailing_zeros())) as usize;
        match self.v4.get(slot) {
            Some(&(known, place)) if known == address && place != EMPTY => place - 1,
            _ => {
                let place = self.look_up(Ipv4Addr::from_bits(address).into(), tables, texts);
                if let Some(entry) = self.v4.get_mut(slot) {
                    *entry = (address, place + 1);
                }
                place
            }
        }
    }

    #[inline]
    fn of_v6(&mut self, address: &[u8; 16], tables: &Tables, texts: &mut Texts) -> u32 {
        let bits = u128::from_ne_bytes(*address);
        let mixed = ((bits >> 64) as u64 ^ (bits as u64).rotate_left(29)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let slot = (mixed >> (64 - V6.trailing_zeros())) as usize;
        match self.v6.get(slot) {
            Some((known, place)) if known == address && *place != EMPTY => *place - 1,
            _ => {
                let place = self.look_up(Ipv6Addr::from(*address).into(), tables, texts);
                if let Some(entry) = self.v6.get_mut(slot) {
                    *entry = (*address, place + 1);
                }
                place
            }
        }
    }

    /// Asks every table.
    #[inline(never)]
    fn look_up(&mut self, address: IpAddr, tables: &Tables, texts: &mut Texts) -> u32 {
        let mut key = Key::default();
        let (net, databases) = key.split_at_mut(1);
        net.iter_mut().for_each(|net| *net = tables.networks.at(address));
        for (place, geo) in databases.iter_mut().zip(&tables.geo) {
            // A record at 0 is one, too.
            *place = geo.at(address).map_or(0, |at| at as u32 + 1);
        }
        if key == Key::default() {
            return 0;
        }
        if let Some(&place) = self.by_key.get(&key) {
            return place;
        }
        let mut known = tables.networks.attributes(tables.networks.at(address)).cloned().unwrap_or_default();
        for geo in &tables.geo {
            known = known.or(&geo.attributes(address));
        }
        let place = self.add(&known, texts);
        self.by_key.insert(key, place);
        place
    }

    fn add(&mut self, known: &Attributes, texts: &mut Texts) -> u32 {
        let Attributes { net, site, city, country, number, as_name } = known;
        let place = Place {
            texts: [country, as_name, net, site, city].map(|text| texts.id_of(text.as_deref())),
            number: *number,
        };
        for (has, text) in self.has.iter_mut().zip(place.texts) {
            *has |= text != 0;
        }
        self.has_number |= number.is_some();
        self.all.push(place);
        self.all.len() as u32 - 1
    }
}
