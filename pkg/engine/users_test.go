package engine

import (
	"errors"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/containr/containr/pkg/container"
	"github.com/containr/containr/pkg/host"
)

// No two containers that are there have an id in common; what one gave back, or had when it died, is given again; and when
// nothing is left, there is nothing.
func TestClaimsNeverOverlap(t *testing.T) {
	e := New(Options{Root: t.TempDir()})
	containers, err := e.containers()
	if err != nil {
		t.Fatal(err)
	}
	uids := []host.IDRange{{First: 5000, Count: 100}, {First: 1000, Count: 50}}
	gids := []host.IDRange{{First: 100, Count: 120}, {First: 4294967200, Count: 1000}}
	r := rand.New(rand.NewPCG(1, 1))
	alive := map[string]*container.Reservation{}
	full := 0
	for range 400 {
		if len(alive) > 0 && r.IntN(3) == 0 {
			for id, place := range alive {
				if r.IntN(2) == 0 { // else it has died, and its claim is still there
					if err := e.releaseUsers(id); err != nil {
						t.Fatal(err)
					}
				}
				if err := place.Cancel(t.Context()); err != nil {
					t.Fatal(err)
				}
				delete(alive, id)
				break
			}
		}
		id, size := container.NewID(), uint32(1+r.IntN(30))
		place, err := containers.Reserve(t.Context(), id, "", false)
		if err != nil {
			t.Fatal(err)
		}
		_, _, err = e.claimIDs(t.Context(), id, uids, gids, size)
		if errors.Is(err, ErrNoAutoIDs) {
			full++
			err = place.Cancel(t.Context())
		} else {
			alive[id] = place
		}
		if err != nil {
			t.Fatal(err)
		}
		checkClaims(t, e, alive, uids, gids)
	}
	if full == 0 || full > 300 {
		t.Errorf("there was no room %d times of 400", full)
	}
	for _, place := range alive {
		if err := place.Cancel(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.RemoveAll(e.claimsDir()); err != nil {
		t.Fatal(err)
	}
}

func checkClaims(t *testing.T, e *Engine, alive map[string]*container.Reservation, uids, gids []host.IDRange) {
	t.Helper()
	all, err := e.claims()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[uint64]bool{}
	n := 0
	for _, c := range all {
		if alive[c.id] == nil {
			continue
		}
		n++
		for k := range c.Size {
			u, g := uint64(c.UID)+uint64(k), uint64(c.GID)+uint64(k)
			if seen[u] || seen[1<<40+g] || !granted(uids, u) || !granted(gids, g) {
				t.Fatalf("%v: user %d or group %d is another's, or nobody's", c, u, g)
			}
			seen[u], seen[1<<40+g] = true, true
		}
	}
	if n != len(alive) {
		t.Fatalf("%d claims for %d containers", n, len(alive))
	}
}

func granted(ranges []host.IDRange, id uint64) bool {
	for _, r := range ranges {
		if id >= uint64(r.First) && id < uint64(r.First)+uint64(r.Count) && id < 1<<32-1 {
			return true
		}
	}
	return false
}
