//! What there is, on one screen: the clusters, a line a service with what it answers here, and what to try. Every
//! answer in it was asked for over DNS.

use super::{
    Demo,
    ask::{RecordType, Reply},
};
use model::{export::Kind, merge::Service, view::View};

/// Services that are listed; a screen holds no more.
const MAX_SERVICES: usize = 40;

/// Addresses that are listed of one answer.
const MAX_ADDRESSES: usize = 4;

/// The clusters, the services, and what to try.
pub(super) async fn overview(demo: &Demo, view: &View) -> anyhow::Result<String> {
    let cluster = |cluster: &super::clusters::Cluster| match cluster.network.is_unnamed() {
        true => cluster.id.to_string(),
        false => format!("{} (network {})", cluster.id, cluster.network),
    };
    let clusters: Vec<String> = demo.fleet.clusters.iter().map(cluster).collect();
    let mut text = format!("Clusters: {}. Names are answered as in {}.\n\n", clusters.join(", "), demo.place.cluster);
    let mut rows = vec![["SERVICE", "READY ENDPOINTS", "VIRTUAL ADDRESS", "ANSWERS HERE"].map(str::to_owned)];
    let (mut answering, mut silent) = (None, None);
    for (key, service) in view.services().iter().take(MAX_SERVICES) {
        let reply = demo.resolver.addresses(&key.host(&demo.zone)).await?;
        let first = if reply.has_data() { &mut answering } else { &mut silent };
        first.get_or_insert_with(|| service.clone());
        rows.push([key.to_string(), ready(service), address(service), short(&reply)]);
    }
    text += &table(&rows);
    match view.services().len().saturating_sub(MAX_SERVICES) {
        0 if rows.len() == 1 => text += "(no services)\n",
        0 => {}
        more => text += &format!("and {more} more\n"),
    }
    text += "\nTry:\n";
    text += &table(&to_try(demo, answering.as_deref(), silent.as_deref()));
    text += &format!("Status: http://{}/status", demo.admin);
    Ok(text)
}

/// Questions that show a kind of answer each.
fn to_try(demo: &Demo, answering: Option<&Service>, silent: Option<&Service>) -> Vec<[String; 2]> {
    let server = demo.resolver.server;
    let dig = |name: &str, kind: RecordType, shows: &str| {
        let line = format!("  dig @{} -p {} {name} {kind}", server.ip(), server.port());
        [line, format!("# {shows}")]
    };
    let mut lines = Vec::new();
    if let Some(service) = answering {
        let host = service.key.host(&demo.zone);
        lines.push(dig(&host, RecordType::A, "endpoints"));
        let named = service.ports.iter().find(|port| !port.name.is_empty());
        lines.extend(named.map(|port| {
            let name = format!("_{}.{}.{host}", port.name, port.protocol.srv_label());
            dig(&name, RecordType::SRV, "where they listen")
        }));
    }
    if let Some(service) = silent {
        lines.push(dig(&service.key.host(&demo.zone), RecordType::A, "nothing, and why"));
    }
    lines.push(dig(&format!("_revision.{}", demo.zone), RecordType::TXT, "the revision answers are from"));
    lines
}

/// Who exports it by id, with the number of ready endpoints. (Who was first is another order, and differs between runs.)
pub(super) fn ready(service: &Service) -> String {
    let export = |(cluster, export): &(_, std::sync::Arc<model::export::Export>)| {
        let cluster: &model::name::ClusterId = cluster;
        format!("{cluster} {}", export.ready())
    };
    let mut exports: Vec<String> = service.exports.iter().map(export).collect();
    exports.sort();
    exports.join(", ")
}

fn address(service: &Service) -> String {
    match (service.kind, service.vip) {
        (Kind::Headless, _) => "headless".to_owned(),
        (Kind::ClusterIp, Some(vip)) => vip.v4.to_string(),
        (Kind::ClusterIp, None) => "none yet".to_owned(),
    }
}

fn short(reply: &Reply) -> String {
    match reply.data.len().saturating_sub(MAX_ADDRESSES) {
        0 => reply.to_string(),
        more => format!("{} and {more} more", reply.data[..MAX_ADDRESSES].join(" ")),
    }
}

/// Columns as wide as their widest cell, but for the last.
fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::table;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["a", "bb", "c"], ["dddd", "e", "ffff"], ["g", "", ""]].map(|row| row.map(str::to_owned));
        assert_eq!(table(&rows), "a     bb  c\ndddd  e   ffff\ng\n");
    }
}
