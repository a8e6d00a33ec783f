#!/bin/sh
# Compiles kernel.c into kernel.wasm (or into $1) with Debian's clang and lld. The result is kept in the repository.
set -eu
cd "$(dirname "$0")"
clang --target=wasm32 -O3 -msimd128 -mbulk-memory -nostdlib -ffreestanding -fuse-ld="$(command -v wasm-ld || command -v wasm-ld-14)" \
    -Wl,--no-entry -Wl,--import-memory -Wl,-z,stack-size=4096 -Wl,--global-base=8192 -o "${1:-kernel.wasm}" kernel.c
