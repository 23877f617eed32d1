package probe

import (
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// hunt looks for a file through every process that /proc lists, as fast as it can: by the process's root, by its working
// directory, and by each of its descriptors, from which it climbs. It prints how it has reached the file each time that it
// does by a way that it has not printed before, and "root /probe" when it has reached this program through another process:
// then it has the power to look. "another root" is a process that it may look into, and that has another root than this one.
func (p *prober) hunt(path string) error {
	self := strconv.Itoa(os.Getpid())
	up := strings.Repeat("/..", 20)
	told := map[string]bool{}
	tell := func(how string) error {
		if told[how] {
			return nil
		}
		told[how] = true
		return p.answer(Event{Hunted: how})
	}
	there := func(path string) bool {
		var st unix.Stat_t
		return unix.Stat(path, &st) == nil
	}
	for {
		names, err := readNames("/proc")
		if err != nil {
			return err
		}
		for _, pid := range names {
			if pid == self || pid[0] < '0' || pid[0] > '9' {
				continue
			}
			dir := "/proc/" + pid
			for _, link := range []string{"root", "cwd"} {
				if there(dir + "/" + link + up + path) {
					if err := tell(link); err != nil {
						return err
					}
				}
			}
			how := ""
			if there(dir + "/root/.") {
				if there(dir + "/root/probe") {
					how = "root /probe"
				} else if there(dir + "/root/.") { // it has not just ended
					how = "another root"
				}
			}
			if how != "" {
				if err := tell(how); err != nil {
					return err
				}
			}
			fds, _ := readNames(dir + "/fd") // it may be gone
			for _, fd := range fds {
				if there(dir + "/fd/" + fd + up + path) {
					if err := tell("descriptor"); err != nil {
						return err
					}
				}
			}
		}
	}
}

func readNames(dir string) ([]string, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return d.Readdirnames(-1)
}
