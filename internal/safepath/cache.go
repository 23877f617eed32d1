package safepath

import "golang.org/x/sys/unix"

// cacheSize is how many directories a Root keeps open. An archive lists files
// directory by directory, so that few serve nearly all lookups.
const cacheSize = 64

// cache remembers resolved directories by clean name, the least recently used
// leaving first. The name may lead through symbolic links: therefore
// everything is forgotten when anything is removed from the tree by us.
type cache struct {
	dirs  map[string]*Dir
	clock uint64
	// parted is a directory that was in use while all were forgotten; it is
	// closed the next time.
	parted *Dir
}

// close gives the descriptor back. Whoever uses d after that gets EBADF and
// never the next file to have the number.
func (d *Dir) close() {
	unix.Close(d.fd)
	d.fd = -1
}

func (c *cache) get(name string) *Dir {
	d := c.dirs[name]
	if d != nil {
		c.clock++
		d.used = c.clock
	}
	return d
}

func (c *cache) put(name string, d *Dir) {
	if c.dirs == nil {
		c.dirs = make(map[string]*Dir, cacheSize)
	}
	if len(c.dirs) >= cacheSize {
		c.evict()
	}
	c.clock++
	d.used = c.clock
	c.dirs[name] = d
}

// evict closes the directory that was used longest ago. Looking at all of them
// costs less than the system calls that follow.
func (c *cache) evict() {
	var oldest string
	first := ^uint64(0)
	for name, d := range c.dirs {
		if d.used < first {
			oldest, first = name, d.used
		}
	}
	c.dirs[oldest].close()
	delete(c.dirs, oldest)
}

// clear forgets all directories and closes them, except inUse, which its user
// may go on using until the next clear.
func (c *cache) clear(inUse *Dir) {
	if c.parted != nil && c.parted != inUse {
		c.parted.close()
		c.parted = nil
	}
	for _, d := range c.dirs {
		if d == inUse {
			c.parted = d
			continue
		}
		d.close()
	}
	clear(c.dirs)
}
