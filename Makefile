# make            build bin/containr, containr-runtime, containr-monitor, containr-cni, containr-init and containr-usernet (static), with the built-in image in them
# make demo       see a container run, and explained (as root)
# make test       every test: unit tests, and as root the kernel tests and guests (PKG=./pkg/plan for one package)
# make race       the same with the race detector, which needs a C compiler
# make cover      coverage over all packages, by unit and kernel tests together; it must not fall
# make install    copy programs, manual pages, completions and the systemd unit below PREFIX (/usr/local)
# make lint       gofmt, go vet, staticcheck, and the layering of the packages
# make golden     write the golden files of the tests anew; look at the diff before you commit it
# make bench      the figures of docs/performance.md (as root)
# make tools      install what tests need: Debian packages (as root) and Go programs
# make clean      remove what was built
#
# It needs Go and git. Everything is built without cgo and without a time in it: the same sources make the same bytes.

GO      ?= $(shell command -v go || echo /usr/local/go/bin/go)
export PATH := $(dir $(GO)):$(PATH)
GOARCH  := $(shell $(GO) env GOARCH)
MODULE  := github.com/containr/containr
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
export CGO_ENABLED := 0

# -buildid= and -trimpath keep paths of this machine out, -buildvcs=false the commit, of which VERSION tells.
BUILD   := $(GO) build -trimpath -buildvcs=false
STRIP   := -s -w -buildid=
STAMP   := -X $(MODULE)/internal/cli.Version=$(VERSION) -X $(MODULE)/internal/ocicli.Version=$(VERSION)

# containr-runtime and containr start at entries of their own, see entry.go in cmd/containr-runtime and cmd/containr.
ifneq ($(filter amd64 arm64,$(GOARCH)),)
ENTRY_containr-runtime := -E main.entry
ENTRY_containr := -E main.entry
endif

# Without Go's newer garbage collector, where Go lets one choose: it keeps its marks at the end of each span of small objects, so that
# the first object of each size costs one more page. A run of containr-runtime never collects; it is 4 % of its processor time.
EXPERIMENT_containr-runtime := $(shell GOEXPERIMENT=nogreenteagc $(GO) env GOEXPERIMENT 2>/dev/null)

# What the tests use, in versions that were tried.
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
REGISTRY    := github.com/distribution/distribution/v3/cmd/registry@v3.1.2
CRANE       := github.com/google/go-containerregistry/cmd/crane@v0.20.6

SOURCES := $(shell find cmd internal pkg -type f ! -name '*_test.go' ! -path '*/testdata/*' ! -name 'base.oci.tar*') go.mod go.sum
BASE_SOURCES := $(shell find cmd/base cmd/mkbase internal/userland internal/baseimage -name '*.go' ! -name '*_test.go') go.mod go.sum

BASE_ARCHES := amd64 arm64
BASE_IMAGE  := internal/baseimage/image/base.oci.tar
PROGRAMS    := bin/containr bin/containr-runtime bin/containr-init bin/containr-monitor bin/containr-cni bin/containr-usernet

# The names of containr-cni: plugins of CNI, and what podman calls.
PLUGINS := bridge macvlan host-local portmap firewall multus netavark

.PHONY: all install demo test race cover lint golden bench tools clean base
.DELETE_ON_ERROR:

all: $(PROGRAMS)

# What the linker writes is in memory in single pages, since it maps the file; a copy, as after an installation or a new
# boot, is there in larger pieces, which are mapped with fewer page faults. That is a tenth of a run of containr-runtime.
bin/%: $(SOURCES) $(BASE_IMAGE) .cache/version
	@mkdir -p bin
	$(if $(EXPERIMENT_$*),GOEXPERIMENT=$(EXPERIMENT_$*)) $(BUILD) -ldflags '$(STRIP) $(STAMP) $(ENTRY_$*)' -o .cache/$*.linked ./cmd/$*
	@rm -f $@ && cp .cache/$*.linked $@ && rm .cache/$*.linked

# The version is a prerequisite of what carries it; the file changes only when the version does.
.cache/version: FORCE
	@mkdir -p .cache
	@echo '$(VERSION)' | cmp -s - $@ || echo '$(VERSION)' > $@
FORCE:

base: $(BASE_IMAGE)

$(BASE_IMAGE): $(BASE_ARCHES:%=.cache/base-%)
	@GOARCH= $(GO) run ./cmd/mkbase $@ $(foreach a,$(BASE_ARCHES),$(a)=.cache/base-$(a))
	@touch $@

.cache/base-%: $(BASE_SOURCES)
	@mkdir -p .cache
	GOARCH=$* $(BUILD) -ldflags '$(STRIP)' -o $@ ./cmd/base
	@touch $@

PREFIX ?= /usr/local
install: all
	install -D -t '$(DESTDIR)$(PREFIX)/bin' $(PROGRAMS)
	install -d '$(DESTDIR)$(PREFIX)/libexec/containr/cni'
	for name in $(PLUGINS); do ln -sfn ../../../bin/containr-cni '$(DESTDIR)$(PREFIX)/libexec/containr/cni/'$$name; done
	install -D -m 644 -t '$(DESTDIR)$(PREFIX)/share/man/man1' man/*.1
	install -D -m 644 -t '$(DESTDIR)$(PREFIX)/share/man/man5' man/*.5
	sed 's|/usr/local/bin|$(PREFIX)/bin|' init/containr-boot.service > .cache/containr-boot.service
	install -D -m 644 -t '$(DESTDIR)$(PREFIX)/lib/systemd/system' .cache/containr-boot.service
	@cd .cache && for shell in bash zsh fish; do GOARCH= CGO_ENABLED=0 $(GO) run ../cmd/containr completion $$shell > completion.$$shell || exit 1; done
	install -D -m 644 .cache/completion.bash '$(DESTDIR)$(PREFIX)/share/bash-completion/completions/containr'
	install -D -m 644 .cache/completion.zsh '$(DESTDIR)$(PREFIX)/share/zsh/site-functions/_containr'
	install -D -m 644 .cache/completion.fish '$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/containr.fish'

demo: all
	@scripts/demo

# Tests that miss a tool are left out with a word about it; so a tool that cannot be had does not stop the others.
test: all
	@$(MAKE) -s tools || true
	@GO='$(GO)' scripts/test $(PKG)

race: all
	@GO='$(GO)' RACE=1 scripts/test $(PKG)

cover: all
	@$(MAKE) -s tools || true
	@GO='$(GO)' scripts/coverage $(PKG)

lint:
	@GO='$(GO)' STATICCHECK='$(STATICCHECK)' scripts/lint

golden:
	@GO='$(GO)' scripts/golden

bench: all
	@GO='$(GO)' scripts/bench

tools: bin/tools/registry
	@scripts/install-deps
	@$(MAKE) -s bin/tools/crane

bin/tools/registry: Makefile
	@mkdir -p bin/tools
	GOBIN='$(CURDIR)/bin/tools' $(GO) install -trimpath -ldflags '-s -w' $(REGISTRY)
	@touch $@

bin/tools/crane: Makefile
	@mkdir -p bin/tools
	GOBIN='$(CURDIR)/bin/tools' $(GO) install -trimpath -ldflags '-s -w' $(CRANE)
	@touch $@

clean:
	rm -rf bin .cache coverage $(BASE_IMAGE) $(BASE_IMAGE).new
