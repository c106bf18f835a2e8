# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
#
# guest-lib.sh: what guest-image and guest-kernels share: Debian's archives as apt knows them, and the cache in which each
# product is one folder, complete or not there at all. Source tools/lib.sh first.

readonly cache_dir=${XDG_CACHE_HOME:-$HOME/.cache}/bulkhead
readonly keep_days=14 # what no run used for that long goes

# The Debian suites apt knows, as one-line sources. Third-party archives stay out: the guest is a plain Debian.
debian_sources() {
    apt-get indextargets --format '$(ORIGIN)|deb $(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
        sed -n 's/^Debian|//p' | grep -v -- '-backports' | sort -u
}

# The release that most of them belong to.
debian_codename() {
    apt-get indextargets --format '$(ORIGIN)|$(CODENAME)' 'Created-By: Packages' |
        sed -n 's/^Debian|//p' | sed 's/-.*//' | sort | uniq -c | sort -rn | awk 'NR == 1 { print $2 }'
}

# cache_begin NAME KEY REBUILD: one run at a time makes NAME. Sets `out`; prints it and ends the script when it is there.
cache_begin() {
    out=$cache_dir/guest-$1-$2
    mkdir -p "$cache_dir"
    exec 9>"$cache_dir/.lock-${1##*-}"
    flock -n 9 || { say "another run is making this; waiting for it"; flock 9; }
    if [ -e "$out/complete" ] && [ "$3" = no ]; then
        touch "$out"
        echo "$out"
        exit 0
    fi
}

# cache_commit WORK: WORK becomes `out`, atomically; prints it.
cache_commit() {
    touch "$1/complete"
    rm -rf "$out"
    mv "$1" "$out"
    chmod 755 "$out"
    find "$cache_dir" -mindepth 1 -maxdepth 1 \( -name 'guest-*' -o -name '.work-*' \) -mtime +"$keep_days" \
        -exec rm -rf {} + 2>/dev/null || true
    echo "$out"
}
