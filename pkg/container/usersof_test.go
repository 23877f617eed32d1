package container

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// An ordinary user who keeps his id has exactly his own id there, and around it all that he is granted.
func TestKeepIDGivesEveryGrantedIDOnce(t *testing.T) {
	m := Machine{Rootless: true, UIDMap: []specs.LinuxIDMapping{{ContainerID: 0, HostID: 1000, Size: 1}, {ContainerID: 1, HostID: 100000, Size: 600}, {ContainerID: 601, HostID: 200000, Size: 64936}}}
	m.GIDMap = m.UIDMap
	for word, want := range map[string]string{
		"keep-id":           "0:100000:600 600:200000:400 1000:1000:1 1001:200400:64536",
		"keep-id:uid=0":     "0:1000:1 1:100000:600 601:200000:64936",
		"keep-id:uid=600":   "0:100000:600 600:1000:1 601:200000:64936",
		"keep-id:uid=70000": "0:100000:600 600:200000:64936 70000:1000:1",
		"keep-id:size=100":  "0:100000:100 1000:1000:1",
	} {
		u, err := ParseUsers(word)
		if err != nil {
			t.Fatal(err)
		}
		uids, _ := keepIDMaps(u, m)
		if got := strings.Join(FormatIDMaps(uids), " "); got != want {
			t.Errorf("%s: %s, want %s", word, got, want)
		}
		if err := validateIDMaps("", uids); err != nil {
			t.Errorf("%s: %v", word, err)
		}
	}
}

// Whatever is forced, every id of a container below its size means one id outside, and no two the same.
func TestAutoMapsLeaveNoGap(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(7, seed))
		size := uint32(1 + r.IntN(50))
		var u Users
		next := uint32(0)
		for host := uint32(1000); r.IntN(3) > 0; host += 20 {
			next += uint32(r.IntN(10))
			m := specs.LinuxIDMapping{ContainerID: next, HostID: host, Size: uint32(1 + r.IntN(9))}
			u.UIDMap, next = append(u.UIDMap, m), next+m.Size
		}
		uids, gids := AutoMaps(u, size, 500000, 700000)
		if err := validateIDMaps("", uids); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		for id := range size {
			if !mapped(id, uids) || !mapped(id, gids) {
				t.Fatalf("seed %d: %d of %d is in none of %v", seed, id, size, FormatIDMaps(uids))
			}
		}
		for _, m := range uids {
			if m.HostID >= 500000 && m.HostID+m.Size > 500000+size {
				t.Fatalf("seed %d: %v is beyond the %d ids from 500000 on", seed, FormatIDMaps(uids), size)
			}
		}
	}
}

func TestUsersNeeded(t *testing.T) {
	passwd := []byte("root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/:\nbad\nweb:x:3000:4000::/:\n")
	for _, c := range []struct {
		group, user string
		want        uint32
	}{{"", "", 4001}, {"big:x:9000:\n", "", 9001}, {"", "20000:5", 20001}, {"", "4000000000", MaxAutoUsers}} {
		if got := UsersNeeded(passwd, []byte(c.group), c.user); got != c.want {
			t.Errorf("%+v: %d", c, got)
		}
	}
	if got := UsersNeeded(nil, nil, ""); got != MinAutoUsers {
		t.Errorf("nobody in particular: %d", got)
	}
}
