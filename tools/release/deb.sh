#!/bin/sh
# Builds the Debian package, target/debian/flowlane_*.deb, by cargo-deb (cargo install cargo-deb).
set -eu
cd "$(dirname "$0")/../.."
program=target/release/flowlane
[ "${1:-}" = --no-build ] || cargo build --release -p flowlane
rm -rf target/deb
"$program" man target/deb/man
for shell in bash zsh fish; do
  "$program" completions "$shell" > "target/deb/flowlane.$shell"
done
cargo deb -p flowlane --no-build --strip
