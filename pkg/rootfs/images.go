package rootfs

import (
	"errors"
	"path"
	"strconv"
	"strings"

	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
)

// ImageOption begins an option of an overlay beyond those of the OCI specification, FILE:DIR: a lower directory DIR is empty,
// and what belongs there is the EROFS image FILE (a layer that is kept as one file). It is mounted on DIR where nobody else
// sees it, in the mount namespace in which the overlay is made and before that. The overlay holds what it is made of: the
// place goes with the host's tree, and the image with the overlay.
const ImageOption = "containr.image="

// SpaceOption begins an option of an overlay like ImageOption, DEVICE:DIR: the directory DIR is empty, and what belongs there is the
// file system on the block device DEVICE, which has the upper directory and bounds it.
const SpaceOption = "containr.space="

// spaceSystem is the file system of a space, and spaceData its options: blocks of removed files are given back.
const spaceSystem, spaceData = "ext4", "discard"

// erofs is how the kernel calls the file system of images. File-backed mounts came with Linux 6.12.
const erofs = "erofs"

var errImagesNeedRoot = errors.New("layers that are EROFS images can only be mounted by the host's root, not in a user namespace")

// imageOption takes an option apart.
func imageOption(option string) (file, dir string) {
	file, dir, _ = strings.Cut(option, ":")
	return file, dir
}

// mountImages plans the mounts of the images that an overlay has.
func (b *builder) mountImages(o *options, pointer string) error {
	if (len(o.images) > 0 || o.space != "") && b.in.UserNS {
		return errImagesNeedRoot
	}
	if o.space != "" {
		device, dir := imageOption(o.space)
		b.Do("the file system that bounds what the container writes, mounted where nobody else sees it",
			linux.Mount{Source: device, Target: dir, Type: spaceSystem, Flags: linux.MsNodev, Data: spaceData}).For(pointer)
	}
	for _, i := range o.images {
		file, dir := imageOption(i)
		b.Do("a layer that is one file, mounted where nobody else sees it",
			linux.Mount{Source: file, Target: dir, Type: erofs, Flags: linux.MsReadonly | linux.MsNodev | linux.MsNosuid}).For(pointer)
	}
	return nil
}

// imageReg is the register of an image with other owners, of one of the configuration's mounts.
func imageReg(pointer string, n int) plan.Reg {
	return plan.Reg("image" + path.Base(pointer) + "-" + strconv.Itoa(n))
}

// mappedImages plans, for MapLayers, what the keeper does: each image is mounted with the container's owners, at its place.
// A mount is mapped before it has one.
func (b *builder) mappedImages(o *options, pointer string) {
	for n, i := range o.images {
		const why = "a layer that is one file"
		file, dir := imageOption(i)
		reg := linux.FD(imageReg(pointer, n))
		b.Do(why, linux.Fsopen{Type: erofs}).As("fs").For(pointer)
		b.Do(why, linux.Fsconfig{FS: "fs", Command: linux.FsconfigSetString, Key: "source", Value: file}).For(pointer)
		b.Do(why, linux.Fsconfig{FS: "fs", Command: linux.FsconfigCreate}).For(pointer)
		b.Do(why, linux.Fsmount{FS: "fs", Attrs: linux.AttrReadonly | linux.AttrNodev | linux.AttrNosuid}).As(plan.Reg(reg)).For(pointer)
		b.Do("nothing of the host's is left open", linux.Close{FD: "fs"}).For(pointer)
		b.Do("who its files belong to, seen through this mount", linux.MountSetattr{Dir: reg, Set: linux.AttrIdmap, UserNS: usersReg(pointer)}).For(pointer)
		b.Do("its place among the layers, where nobody else sees it", linux.MoveMount{From: reg, To: linux.CWD, ToPath: dir}).For(pointer)
		b.Do("nothing of the host's is left open", linux.Close{FD: reg}).For(pointer)
	}
}
