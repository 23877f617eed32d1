// Package erofs writes file systems of the kind EROFS, which the kernel reads from one file.
//
// # Vocabulary
//
// An image is one such file system. A node is what the kernel calls an inode: [Node]. Metadata are the nodes as they are in
// the image, each with its attributes and, where that fits, the end of its data, its tail. A slot is 32 bytes of metadata;
// a node begins at a slot, and the number of that is the number of the node, its nid.
//
// # Theory of operation
//
// A layer of an image for containers arrives as a stream: what comes first has to be written before it is known what else
// there will be. So the data of files is written where the image has got to ([Writer.Put]), in whole blocks, and what is
// left of each goes to a second file, the spool. The tree of names is made by the caller, in memory, of nodes; it may
// change until the end. [Writer.Finish] then finds a place for each node in the metadata, and so its number, writes the
// directories, which need the numbers, and the metadata with the tails from the spool, and the superblock.
//
//	block 0              the superblock, at 1024
//	block 1 ...          data of files, as it came
//	then                 directories, and links that fit nowhere else
//	from meta_blkaddr    metadata
//
// Most files of most images are shorter than a block and are in the metadata as a whole: no block is partly empty on their
// behalf, and who reads the node has read the file. Metadata are filled by the best fit among the last few blocks.
//
// The same calls make the same bytes. Nothing is taken from the clock or by chance.
//
// What is written is the format that Linux 5.4 reads (Documentation/filesystems/erofs.rst; the structs are those of
// fs/erofs/erofs_fs.h), with one addition of Linux 5.15: files with holes have a table of chunks. Nothing is compressed;
// all nodes are extended ones, as only those have a time, owners beyond 65535 and sizes beyond 4 GiB.
package erofs

import (
	"errors"
	"fmt"
	"strings"
)

// Block is the size of blocks, in bytes.
const Block = 1 << blockBits

const (
	blockBits = 12
	slotSize  = 32
	nodeSize  = 64 // struct erofs_inode_extended
	superAt   = 1024
	superSize = 128
	magic     = 0xe0f5e1e2

	featureChecksum = 1 << 0 // of feature_compat
	featureMtime    = 1 << 1
	featureChunks   = 1 << 2 // of feature_incompat

	layoutPlain  = 0 // EROFS_INODE_FLAT_PLAIN: all data in blocks
	layoutInline = 2 // EROFS_INODE_FLAT_INLINE: the tail after the node
	layoutChunks = 4 // EROFS_INODE_CHUNK_BASED: a table of blocks after the node

	noBlock = 1<<32 - 1 // EROFS_NULL_ADDR: a hole
)

// Types of files, as in st_mode (inode(7)).
const (
	typeMask = 0o170000
	Socket   = 0o140000
	Link     = 0o120000
	Regular  = 0o100000
	BlockDev = 0o060000
	Dir      = 0o040000
	CharDev  = 0o020000
	Fifo     = 0o010000
)

// Node is a file of any kind. One that is in the tree by several names has hard links.
type Node struct {
	// Mode is type and permissions, as st_mode has them.
	Mode     uint32
	UID, GID uint32
	// Seconds since 1970, and nanoseconds, are when its data was last changed. EROFS has no other time.
	Seconds     int64
	Nanoseconds uint32
	// Rdev is the number of a device: 12 bits major and 20 bits minor.
	Major, Minor uint32
	// Target is what a symbolic link says.
	Target string
	// Xattrs are extended attributes by their full names; see [CheckXattr].
	Xattrs map[string]string
	// Children is what a directory has, by names without slashes, at most 255 bytes long.
	Children map[string]*Node

	data data // of a regular file, see Writer.Put
	at   place
}

// data is where the bytes of a file are.
type data struct {
	size      int64
	block     uint32   // of the first
	tail      int64    // where what follows the last whole block is in the spool
	inline    int      // how many bytes that is; 0: all are in blocks
	chunks    []uint32 // their first blocks, if there are holes
	chunkBits uint8    // log2 of the blocks in a chunk
}

// place is what Finish finds out about a node.
type place struct {
	known  bool
	offset int64 // in the metadata
	names  uint32
	parent *Node // of a directory
}

// Type is the type of the file, one of Socket to Fifo.
func (n *Node) Type() uint32 { return n.Mode & typeMask }

// Size is the length of a regular file in bytes.
func (n *Node) Size() int64 { return n.data.size }

// errXattr says that the format has no room for an extended attribute.
var errXattr = errors.New("the attribute cannot be in an EROFS image")

// The kinds of attributes, as the kernel numbers them (EROFS_XATTR_INDEX_USER and so on). The rest of the name follows.
var xattrKinds = [...]struct {
	prefix string
	index  uint8
	whole  bool // the prefix is all of the name
}{
	{"user.", 1, false}, {"system.posix_acl_access", 2, true}, {"system.posix_acl_default", 3, true}, {"trusted.", 4, false}, {"security.", 6, false},
}

// maxXattr is the longest value of an attribute: its length has 16 bits.
const maxXattr = 1<<16 - 1

// splitXattr finds the kind of an attribute, and what follows in its name.
func splitXattr(name string) (index uint8, rest string, ok bool) {
	for _, k := range xattrKinds {
		if rest, ok := strings.CutPrefix(name, k.prefix); ok && (rest == "") == k.whole && len(rest) <= 255 {
			return k.index, rest, true
		}
	}
	return 0, "", false
}

// CheckXattr reports, as an error, that an attribute has a kind of name that the format does not know
// or that its value is too long.
func CheckXattr(name, value string) error {
	if _, _, ok := splitXattr(name); !ok {
		return fmt.Errorf("attribute %q: %w: it knows user, trusted, security and access control lists", name, errXattr)
	}
	if len(value) > maxXattr {
		return fmt.Errorf("attribute %q of %d bytes: %w: a value has at most %d", name, len(value), errXattr, maxXattr)
	}
	return nil
}

const (
	xattrHeader = 12 // struct erofs_xattr_ibody_header
	xattrEntry  = 4  // struct erofs_xattr_entry
)

// xattrSize is how many bytes the attributes of a node take.
func xattrSize(attrs map[string]string) int {
	if len(attrs) == 0 {
		return 0
	}
	size := xattrHeader
	for name, value := range attrs {
		_, rest, _ := splitXattr(name)
		size += align(xattrEntry+len(rest)+len(value), xattrEntry)
	}
	return size
}

func align[T int | int64](n, to T) T { return (n + to - 1) &^ (to - 1) }
