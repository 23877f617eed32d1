// Package image keeps container images: what they are made of, under which names,
// and for how long.
//
// # Vocabulary
//
// A blob is a sequence of bytes known by its digest; it never changes. A
// descriptor says media type, digest and size of a blob. A manifest is a JSON
// blob that lists, by descriptor, one configuration and the layers of an image
// for one platform. An index is a JSON blob that lists manifests, one for each
// platform. The target of a name is the descriptor of an index or manifest. A
// diff id is the digest of a layer's tar stream before compression. The id of
// an image is the digest of its configuration, which lists the diff ids and so
// fixes everything that a container can see.
//
// # Theory of operation
//
// A store is an OCI image layout (image-spec v1.1.1, image-layout.md) with three
// more entries, so that other tools can read it as it is:
//
//	oci-layout, index.json   the names: one descriptor for each, annotated with it
//	blobs/sha256/...         verified content, nothing else
//	ingest/                  content on its way in
//	leases/                  one file for each process that adds content
//	lock                     flock(2): exclusive to change names or collect garbage
//
// There is no daemon and no database; any number of processes work on a store
// at once. Content comes in under a [Lease], in this order:
//
//  1. The lease writes down the digest that is to come, while it shares the lock.
//     From here on no garbage collection removes that blob.
//  2. The bytes go to a file under ingest/, counted and hashed on the way. The
//     file is locked: a second process that wants the same blob waits, and then
//     finds it done. The same process may read the bytes while they still
//     arrive ([Writer.Follow]), so that unpacking overlaps the download.
//  3. Size and digest are right: the file is flushed and renamed to blobs/.
//     Anything else, including a crash, leaves blobs/ as it was.
//  4. When all blobs of an image are there, its name goes into index.json, which
//     is replaced atomically under the exclusive lock. Only now is there an image.
//  5. The lease ends. Locks of the dead are dropped by the kernel, therefore the
//     leavings of a crash are recognised by being unlocked.
//
// Garbage collection holds the exclusive lock: it marks what names and living
// leases reach, and removes the rest, including unlocked files under ingest/. What there
// is of a blob that broke off is kept a day ([PartialAge]): who wants the blob within it
// fetches the rest only.
//
// Nothing that comes from outside is trusted. Digests are parsed before they
// become part of a path; every JSON document has bounds ([MaxManifestSize] and
// its neighbours) and is verified each time it is read; a document that can be
// read as two kinds (CVE-2021-41190) is refused; decompression has bounds
// ([Limits]).
package image
