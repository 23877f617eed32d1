package rootfs

import (
	"errors"
	"strconv"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
)

// Kinds of mounts beyond those of the OCI specification: a file system in memory, with
// files whose content is in no plan and no specification, and one of its files, its name
// in Source, at a place of its own as well. The first comes before the others.
const (
	SecretsType = "secrets"
	SecretType  = "secret"
)

var errSecret = errors.New("a secret is SECRET:MODE:UID:GID:FILE")

// SecretOption begins an option of SecretsType for each file: the secret, mode, owner and
// group, and the file's name, with colons between them.
const SecretOption = "containr.secret="

// secrets plans the first. The child makes file system and files, for the ids in them are
// those of its user namespace, and sends the directory; the host writes what is in them.
func (b *builder) secrets(o *options, dest, pointer string) error {
	const why = "secrets are in memory, and in nothing that is written down"
	reg := b.name("secrets")
	writable := &options{set: linux.AttrNosuid | linux.AttrNodev | linux.AttrNoexec, data: o.data}
	if b.in.Facts.Kernel.AtLeast(6, 4) && !b.in.UserNS {
		writable.data = append(writable.data, "noswap")
	}
	b.newFilesystem("tmpfs", "tmpfs", writable, plan.Reg(reg), pointer)
	for _, s := range o.secrets {
		b.Do(why, linux.Mknodat{Dir: reg, Path: s[4], Mode: regular | 0o600}).For(pointer)
	}
	b.Do(why, linux.SendFD{Socket: linux.FD(Sync), FD: plan.Reg(reg), Data: string(reg)}).For(pointer)
	for _, s := range o.secrets {
		b.By(plan.Host).Do("what it holds, and its mode", linux.Provide{To: plan.Reg(reg), Secret: s[0], Mode: s[1], File: s[4]}).For(pointer)
	}
	b.By(plan.Child)
	for _, s := range o.secrets {
		uid, err := strconv.Atoi(s[2])
		gid, err2 := strconv.Atoi(s[3])
		if err != nil || err2 != nil {
			return errSecret
		}
		b.Do("whose it is", linux.Fchownat{Dir: reg, Path: s[4], UID: uint32(uid), GID: uint32(gid)}).For(pointer)
	}
	if b.in.Facts.HasMountSetattr() {
		setattr(b.Builder, reg, &options{set: linux.AttrReadonly}, pointer)
	}
	b.attach(reg, dest, true, pointer)
	if !b.in.Facts.HasMountSetattr() {
		b.remount(reg, &options{set: writable.set | linux.AttrReadonly}, attrFlags(writable.set), pointer)
	}
	b.secret = reg
	return nil
}

// secretFile plans the second.
func (b *builder) secretFile(m *specs.Mount, dest, pointer string) error {
	if b.secret == "" {
		return errors.New("there is no mount of type " + SecretsType + " before it")
	}
	reg := b.name("file")
	b.Do("a secret at a place of its own", linux.OpenTree{Dir: b.secret, Path: m.Source, Flags: linux.OpenTreeClone | linux.OpenTreeCloexec}).
		As(plan.Reg(reg)).For(pointer)
	b.attach(reg, dest, false, pointer)
	return nil
}
