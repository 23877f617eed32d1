// Package registry brings images from a registry into an image store, and back.
//
// # Theory of operation
//
// The protocol is that of the OCI distribution specification (v1.1.1), also
// known as the Docker Registry HTTP API V2: documents and blobs are fetched with
// GET, and everything is known by its digest, except for the first step from a
// tag to a digest. [Pull] does, in this order:
//
//  1. fetch the target, by tag or digest; if it is an index, choose the platform
//     and fetch that manifest;
//  2. fetch the configuration: from here on the diff id of each layer is known;
//  3. fetch the layers, several at a time. The bytes of a layer go once over the
//     wire: to the store, which verifies them, and at the same time, uncompressed,
//     to the caller's function, so that unpacking overlaps the download;
//  4. name the image in the store. Nothing was visible before.
//
// [Push] goes the other way round: blobs, each of which is there already (HEAD), is in
// another repository of the registry (mount), or is sent; then the manifests by digest;
// the name last. So a registry never has a name of what is not whole.
//
// Both go where [Access] says: to the registry itself, or, for a pull, to its mirrors
// first (source.go), as the files of configuration have it (package hosts), with the
// credentials that a login left (package credential).
//
// [Tags], [Search] and [Login] ask a registry without moving images.
//
// Each request is made with its reason (trace.go). Access.Trace is told of it, without
// secrets, and a pull may be rehearsed: documents are fetched, as they decide what comes
// next, and the requests for layers told and not sent. [Curl] writes what it is told as a
// script. So what is explained is what a pull sends.
//
// What is in the store already is not fetched. A connection that breaks or
// stalls is taken up again where it broke (Range), after a pause that grows with
// each failure in a row and obeys Retry-After; also by the next process, for which the
// part of a blob is kept for a while. What a registry says about sizes
// and digests is never taken on trust: a body is read up to its promised length
// and no further, and every way of lying has its own error ([Error], [Fault]).
//
// The library oras-go does authentication, and only that: challenges and tokens. It was preferred to
// go-containerregistry because it can be used for just this part (an HTTP client
// that answers challenges), brings half of the code into the binary, and keeps
// credentials from strangers: it sends none after a redirect to another host,
// and does not answer that host's challenges either. Fetching is our own, because
// no library resumes, follows and verifies a layer while it is being unpacked.
package registry
