package image

import (
	"errors"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// What callers branch on. Each comes wrapped in an error that names the image,
// blob or file, what was wanted, and what was found.
var (
	// ErrNotFound says that the store has no such image or blob.
	ErrNotFound = errors.New("not found")
	// ErrAmbiguous says that an abbreviated id fits several images, or that an
	// id to be removed belongs to several names.
	ErrAmbiguous = errors.New("ambiguous")
	// ErrPlatform says that an image exists, but for other platforms. The error
	// is a *[PlatformError].
	ErrPlatform = errors.New("no image for this platform")
	// ErrCorrupt says that content is not what its digest or size promises. The
	// error may be a *[VerifyError].
	ErrCorrupt = errors.New("corrupt content")
	// ErrInvalid says that a document breaks the image specification.
	ErrInvalid = errors.New("invalid image")
	// ErrArtifact says that a manifest, valid otherwise, is of a signature or the like. It
	// comes together with ErrInvalid.
	ErrArtifact = errors.New("not a container image but another kind of artifact")
	// ErrLimit says that content exceeds one of the limits of this package.
	ErrLimit = errors.New("limit exceeded")
	// ErrExists says that a blob is in the store already.
	ErrExists = errors.New("already exists")
	// ErrInUse says that an image cannot be removed because the caller's
	// predicate objected.
	ErrInUse = errors.New("image is in use")
	// ErrReference says that a string is not an image reference.
	ErrReference = errors.New("invalid reference")
)

// NotInSourceError says that an archive or layout has other images than the one that is wanted. It is an ErrNotFound.
type NotInSourceError struct {
	Want string
	Have []string // names; images may have none
}

// Error names what is wanted and what there is.
func (e *NotInSourceError) Error() string {
	have := "only " + strings.Join(e.Have, ", ")
	if len(e.Have) == 0 {
		have = "and those in it have no names"
	}
	return fmt.Sprintf("there is no image %q in it, %s: %v", cut(e.Want), have, ErrNotFound)
}

// Unwrap makes it an ErrNotFound.
func (e *NotInSourceError) Unwrap() error { return ErrNotFound }

// VerifyError says in which way a blob is not what its descriptor promises. It
// is an ErrCorrupt.
type VerifyError struct {
	Blob     digest.Digest // as promised
	Digest   digest.Digest // as found; empty if the size was wrong already
	WantSize int64         // as promised, in bytes
	Size     int64         // as found, in bytes; when too long, one more than was promised
}

// Error names the promise and what came instead.
func (e *VerifyError) Error() string {
	switch {
	case e.Size > e.WantSize:
		return fmt.Sprintf("blob %s: want %d bytes, got more", e.Blob, e.WantSize)
	case e.Size < e.WantSize:
		return fmt.Sprintf("blob %s: want %d bytes, got %d", e.Blob, e.WantSize, e.Size)
	}
	return fmt.Sprintf("blob %s: content has digest %s", e.Blob, e.Digest)
}

// Is makes errors.Is(err, ErrCorrupt) true.
func (e *VerifyError) Is(target error) bool { return target == ErrCorrupt }

// PlatformError says which platforms there are instead of the one wanted. It is
// an ErrPlatform.
type PlatformError struct {
	Name string     // of the image, as far as known
	Want Platform   // never zero
	Have []Platform // what the image is for; may be empty
}

// Error lists the platforms that the image is for.
func (e *PlatformError) Error() string {
	if len(e.Have) == 0 {
		return fmt.Sprintf("image %s is not for %s, nor for any platform that is here", e.Name, e.Want)
	}
	have := make([]string, len(e.Have))
	for i, p := range e.Have {
		have[i] = p.String()
	}
	return fmt.Sprintf("image %s is not for %s; it is for %s", e.Name, e.Want, strings.Join(have, ", "))
}

// Is makes errors.Is(err, ErrPlatform) true.
func (e *PlatformError) Is(target error) bool { return target == ErrPlatform }

// SpaceError says that content does not fit on the disk, before any of it was written. It
// is an ENOSPC.
type SpaceError struct {
	What string // what does not fit
	Dir  string // where it was to go
	Need int64  // bytes
	Free int64  // bytes that the file system has left
}

// Error gives both numbers.
func (e *SpaceError) Error() string {
	return fmt.Sprintf("%s needs %d bytes, and the file system of %s has %d left: %v", e.What, e.Need, e.Dir, e.Free, unix.ENOSPC)
}

// Unwrap makes errors.Is(err, unix.ENOSPC) true.
func (e *SpaceError) Unwrap() error { return unix.ENOSPC }
