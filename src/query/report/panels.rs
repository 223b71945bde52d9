//! What a report asks: panels, each with one or more views of the same kind.

/// A kind of groups.
pub(super) struct Panel {
    /// Its name in the page.
    pub id: &'static str,
    /// What stands above it.
    pub title: &'static str,
    pub views: &'static [View],
}

/// A question: the sums by some columns.
pub(super) struct View {
    /// What stands on its tab.
    pub name: &'static str,
    /// As `flowlane top` takes them.
    pub keys: &'static [&'static str],
    /// What its lines in the chart over time are called; `None` where it has none.
    ///
    /// A view of both directions has none: a flow would stand in two lines, and the lines would not add up.
    pub lines: Option<&'static str>,
}

const fn view(name: &'static str, keys: &'static [&'static str], lines: Option<&'static str>) -> View {
    View { name, keys, lines }
}

/// All panels, in the order of the page.
pub(super) const PANELS: &[Panel] = &[
    Panel {
        id: "talkers",
        title: "Top talkers",
        views: &[
            view("Sources", &["src_addr"], Some("Source")),
            view("Destinations", &["dst_addr"], Some("Destination")),
            view("Pairs", &["src_addr", "dst_addr"], None),
        ],
    },
    Panel {
        id: "ports",
        title: "Ports",
        views: &[
            view("Either", &["proto", "port"], None),
            view("Destination", &["proto", "dst_port"], Some("Destination port")),
            view("Source", &["proto", "src_port"], Some("Source port")),
        ],
    },
    Panel { id: "protocols", title: "Protocols", views: &[view("All", &["proto"], Some("Protocol"))] },
    Panel { id: "applications", title: "Applications", views: &[view("All", &["app_name"], Some("Application"))] },
    Panel {
        id: "as",
        title: "Autonomous systems",
        views: &[
            view("Sources", &["src_as"], Some("Source AS")),
            view("Destinations", &["dst_as"], Some("Destination AS")),
            view("Pairs", &["src_as", "dst_as"], None),
        ],
    },
    Panel {
        id: "countries",
        title: "Countries",
        views: &[
            view("Sources", &["src_country"], Some("Source country")),
            view("Destinations", &["dst_country"], Some("Destination country")),
        ],
    },
    Panel { id: "exporters", title: "Exporters", views: &[view("All", &["exporter"], Some("Exporter"))] },
    Panel {
        id: "interfaces",
        title: "Interfaces",
        views: &[view("In", &["exporter", "in_if"], None), view("Out", &["exporter", "out_if"], None)],
    },
];

/// Every view, in order.
pub(super) fn views() -> impl Iterator<Item = &'static View> {
    PANELS.iter().flat_map(|p| p.views)
}
