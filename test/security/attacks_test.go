package security

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/security-tests.md anew")

// page is where the table of attacks is written to, from this directory.
const page = "../../docs/security-tests.md"

// attack is a class of ways out of a container that a runtime, ours or another, was open
// to once.
type attack struct {
	// known are the published cases, as people look for them.
	known string
	// must is what has to hold.
	must string
	// tests fail on a runtime where it does not, by package directory.
	tests map[string][]string
}

const (
	inRuntime   = "pkg/runtime"
	inCNI       = "pkg/network/cni"
	inHere      = "test/security"
	inContainer = "pkg/container"
)

// attacks are sorted by year.
var attacks = []attack{
	{"CVE-2019-5736", "No handle to the program that sets containers up can be had from inside, by `/proc/self/exe`, a script's first line or `/proc/PID/exe`; what is there is a sealed copy that holds nothing of the host's binary.",
		map[string][]string{inRuntime: {"TestProgramThatIsTheRuntime", "TestExecOfTheRuntimeItself", "TestKeeperHoldsNothing"}, "internal/child": {"TestWaitingProgramIsSmallAndClean"}}},
	{"CVE-2019-16884, CVE-2019-19921, CVE-2023-27561, CVE-2023-28642", "An image with a link in the place of `/proc` or `/sys`, and a volume over `/proc`, are refused, also where a link on the way to the volume's place leads there, and however fast it is swapped in; a profile or label is written to a procfs that is one for certain, whatever lies over its files.",
		map[string][]string{inRuntime: {"TestLinkInThePlaceOfProcIsRefused", "TestOnlyProcfsIsMountedOverProc", "TestLinksLeadNoMountIntoProc", "TestAppArmorProfileIsNotToldToTheImage", "TestKernelIsNotToldThroughTheContainersProc"},
			inHere: {"TestLinksOfImagesLeadNoVolumeIntoProc", "TestRacingLinksLeadNoMountIntoProc"}}},
	{"CVE-2020-10749, CVE-2020-13401", "A container that writes its own frames, with CAP_NET_RAW, cannot send with the network's IP address of a neighbour or the gateway, nor a hardware address of the kind that containers are given (02:42), nor its link-local address, answer for theirs in ARP or neighbour discovery, claim one that they are about to have, nor say that it is a router; VLAN tags hide nothing. It takes nobody's place in the bridge's table, which learns nothing from containers, and cannot fill it. Nor do frames help that no bridge passes on: nothing in them reaches the host or is answered, and it learns no routes from containers.",
		map[string][]string{"pkg/network/apply": {"TestNobodySendsAsAnother", "TestNothingComesPastTheBridge", "TestBridgeLearnsNothingFromContainers", "TestNothingIsAnsweredPastTheBridge"}, "test/cli": {"TestInternalNetworkAndTheHost"}}},
	{"CVE-2021-30465, CVE-2024-45310", "Places of mounts are looked up inside the root and kept as descriptors: links, also those that a racing process swaps in, lead no mount, file or directory outside.",
		map[string][]string{inRuntime: {"TestMountTargetsStayInside", "TestMountTargetsBehindLinks"}, inHere: {"TestRacingLinksInVolumesLeadNowhere"}}},
	{"CVE-2021-43784", "What is longer than the kernel, or we, can take is refused, and never cut.",
		map[string][]string{inRuntime: {"TestOversizedMapsAreRefused", "TestIDThatMeansUnchangedIsRefused", "TestOddNamesStayNames"}, inHere: {"TestOddImageConfigurationsAreRefused"}}},
	{"CVE-2022-23648, CVE-2023-0778, CVE-2025-9566", "What an image names as the place of a volume is looked for inside the image, and a part of a volume inside the volume, on descriptors: dots and links, also those that a racing process swaps in, have nothing of the host copied or shown.",
		map[string][]string{inHere: {"TestVolumesOfImagesTakeNothingOfTheHost", "TestRacingLinksInSubpathsLeadNowhere"}}},
	{"files of the host in the hands of a container engine", "A tree of the host that is bound in whatever way is afterwards what it was: content, links, holes, owners, modes, attributes, times. Options that would change owners are refused for it.",
		map[string][]string{inHere: {"TestBoundTreesOfTheHostStayAsTheyAre"}, inContainer: {"TestParseVolume", "TestParseMount"}}},
	{"passwords in images, logs and lists of processes", "What a secret holds is in no plan, record, event, log, layer or command line; at rest it is sealed, and bound to its name. A container has it in memory, and cannot change it.",
		map[string][]string{inHere: {"TestSecretsAreWrittenDownNowhere"}, "pkg/secret": {"TestSecretsAreSealed", "TestFilesAreNotExchanged"}}},
	{"CVE-2022-0492", "Control groups of version 1 are read-only, and the capability that their `release_agent` needs is not there.",
		map[string][]string{inHere: {"TestDefaultContainerCannotChangeTheHost"}, inRuntime: {"TestContainerSeesItsOwnControlGroup"}}},
	{"CVE-2022-0185, CVE-2024-1086 and others of the kernel", "The default filter denies new user namespaces, mounting, `bpf`, `keyctl`, `userfaultfd`, `io_uring` and whatever else ways out have begun with.",
		map[string][]string{inHere: {"TestDefaultContainerCannotReachTheKernelsWeakSpots"}}},
	{"the same, by what the default filter allows", "`--security-opt seccomp=strict` refuses packet sockets, netlink but for routes, ptrace, chroot, nodes for devices, secret memory and other execution domains, and what capabilities or `--privileged` would give back.",
		map[string][]string{inHere: {"TestStrictRefusesWhatTheDefaultAllows"}, "pkg/seccomp/profile": {"TestStrict", "TestStrictAllowsNothingThatTheDefaultRefuses", "TestStrictHasOneABI"}}},
	{"CVE-2022-24769, CVE-2022-27649, CVE-2022-27650, CVE-2022-27651, CVE-2022-29162", "The inheritable set is empty unless asked for, for the first process and each further one.",
		map[string][]string{inRuntime: {"TestContainerSeesItsOwnWorld", "TestExecGetsNoMoreThanTheFirstProcess"}, inHere: {"TestDefaultContainerCannotReachTheKernelsWeakSpots"}}},
	{"CVE-2022-2989, CVE-2022-2990, CVE-2023-25173", "Groups are exactly those that the user database or the configuration names.",
		map[string][]string{inRuntime: {"TestUserAndGroups", "TestExecGetsNoMoreThanTheFirstProcess"}, inContainer: {"TestResolveUser"}}},
	{"CVE-2023-25809", "A container that was made without root has no part of the host's control groups to write to.",
		map[string][]string{inRuntime: {"TestRootlessContainerSeesNoControlGroups"}}},
	{"CVE-2024-21626", "A working directory through a descriptor of any number is refused; no descriptor above 2 is inherited, by the first process and each further one.",
		map[string][]string{inRuntime: {"TestWorkingDirectoryThroughDescriptor", "TestWorkingDirectoryThroughProcessOfTheHost", "TestExecWorkingDirectory", "TestContainerSeesItsOwnWorld", "TestExecGetsNoMoreThanTheFirstProcess"}}},
	{"CVE-2024-29018", "An internal network reaches the name server at its own gateway and no other one of the host, whatever root in a container does with routes and sockets.",
		map[string][]string{"test/cli": {"TestInternalNetworkAndOtherNameServers"}}},
	{"networks of ordinary users", "A user's networks are in namespaces of his own: neither his containers nor another user reach those of another one, who holds them, or the host's loopback addresses; what is sent from a foreign address is not answered as somebody else.",
		map[string][]string{"test/cli": {"TestNetworksOfUsersAreTheirOwn", "TestNetworksOfUsers"}}},
	{"addresses that a container makes up, to be taken for another one", "A rule of a policy for a container holds for its port of the switch. A packet whose source is not the sender's does not get past a rule for ranges of addresses either.",
		map[string][]string{"test/cli": {"TestPolicyAndMadeUpAddresses"}}},
	{"connections that began before they were refused", "A policy holds from the first moment of a container, and for connections that exist when it comes, in both directions.",
		map[string][]string{"test/cli": {"TestPolicyAndConnectionsThatExist", "TestPolicyOfAContainer"}}},
	{"CVE-2024-40635, CVE-2026-46680", "A user of an image that is out of range is an error; it neither becomes root nor is looked up as a name.",
		map[string][]string{inContainer: {"TestResolveUser", "TestResolveUserNeverInventsRoot"}, inHere: {"TestOddImageConfigurationsAreRefused"}}},
	{"CVE-2024-9676, CVE-2026-47262", "`/etc/passwd` and `/etc/group` of an image are read with a limit, never through a link that leaves it, never from a fifo or a device.",
		map[string][]string{"internal/safepath": {"TestReadFile"}, "pkg/snapshot": {"TestReadFileSeesTheMergedTree"}}},
	{"CVE-2025-31133", "What covers files is the host's own `/dev/null`, device 1:3, and never what the container has at that name; a device that is bound is the one that was asked for.",
		map[string][]string{inHere: {"TestMasksDoNotComeFromTheImage"}, inRuntime: {"TestDeviceOfTheHostIsTheOneAskedFor"}}},
	{"CVE-2025-52565", "`/dev/console` is the terminal that was opened, by its descriptor; a file, device or link in the place of a terminal is an error.",
		map[string][]string{inRuntime: {"TestConsoleIsTheTerminalThatWasOpened", "TestExecTerminalIsNoOtherFile"}}},
	{"CVE-2025-52881", "What is written below `/proc` (labels, kernel parameters, the out-of-memory score) goes through a procfs that nobody else sees, to the very file that is meant.",
		map[string][]string{inRuntime: {"TestKernelIsNotToldThroughTheContainersProc", "TestAppArmorProfileIsNotToldToTheImage", "TestKernelParametersOfTheHostAreRefused"}}},
	{"CVE-2026-30892", "`exec --user` with odd text is exactly that user or an error.",
		map[string][]string{"internal/ocicli": {"TestOddUsersAreNobodyElse"}}},
	{"CVE-2026-41579, CVE-2026-47766", "A link in the place of an image's `/dev`, or in it, leads no node, link or directory outside.",
		map[string][]string{inRuntime: {"TestDeviceNodesStayInside"}}},
	{"CVE-2026-50195, CVE-2026-53489, CVE-2026-53492", "Of a checkpoint nothing about the host is believed: mounts, devices, annotations and labels come from the bundle, links are neither read nor written through, and a directory that others may write to is refused.",
		map[string][]string{"internal/ocicli": {"TestCRIUHostileCheckpoint", "TestCRIUCannotFreeze"}, "pkg/criu": {"TestDescriptorsOfACheckpointAreNotBelieved"}}},
	{"profiles and labels that are not there", "An AppArmor profile or SELinux label that is asked for and cannot be had is an error; one that is there confines the first process and each further one.",
		map[string][]string{inRuntime: {"TestLabelsNeedTheirModule", "TestAppArmorProfileConfines", "TestAppArmorProfileConfinesExec", "TestAppArmorProfileThatIsNotLoaded",
			"TestSELinuxLabelConfines", "TestSELinuxLabelConfinesExec", "TestSELinuxLabelThatIsUnknown"}}},
	{"root inside that writes where it should not", "With Landlock nothing but the named directories is written to, by any program of the container, with whatever capabilities, file modes and links of the image.",
		map[string][]string{"test/cli": {"TestScripts"}, inRuntime: {"TestOrderOfEveryPlan"}}},
	{"escape sequences, in what images, programs and registries say", "Errors, hints, tables and JSON hold nothing that commands a terminal; a cell makes no line of its own.",
		map[string][]string{"internal/present": {"TestNothingCommandsTheTerminal", "TestClean"}, "internal/cli": {"TestStoryCommandsNoTerminal"}, "pkg/registry": {"TestServerTextIsMadePrintable"}, "test/cli": {"TestScripts"}}},
	{"indexes in indexes, listed twice each", "Loading, looking for garbage and pushing read each document once, however many ways lead to it.",
		map[string][]string{"pkg/image": {"TestIndexesInIndexesAreReadOnce"}, "pkg/registry": {"TestIndexesInIndexesArePushedOnce"}}},
	{"output of a container in the hands of another", "Who writes without end to the output of a container that has ended does not hold its end up: it is cleaned up, its own last words are kept.",
		map[string][]string{"pkg/monitor": {"TestOutputOfAnotherDoesNotHoldTheEndUp"}}},
	{"CVE-2019-14271, CVE-2026-41568, CVE-2026-42306", "A copy into a container or out of it stays in its directory, and gives owner and set-user-ID bits to the file that it made, not to one that was put in its place.",
		map[string][]string{"pkg/engine": {"TestAnArchiveStaysInItsDirectory", "TestACopyDressesWhatItMade"}}},
	{"links in volumes that files are copied to and from", "A copy into a volume or out of it stays in the volume, also while a program in a container swaps directories for links that lead out.",
		map[string][]string{"test/cli": {"TestCopiesOfVolumesNeverLeaveThem"}, "pkg/engine": {"TestAnArchiveStaysInItsDirectory"}}},
	{"defaults of another user", "A file of defaults that everybody may write, or that belongs to another user but root, is refused, and so is a file of mirrors that nobody named: root may have another's home in its environment.",
		map[string][]string{"internal/config": {"TestAnotherUsersFileIsRefused", "TestReadFile"}, "pkg/registry/hosts": {"TestAnotherUsersMirrorsAreRefused"}}},
	{"state of another user, such as a directory in /tmp that he made first", "A state root that another user owns or everybody may write is refused before anything in it is read or made.",
		map[string][]string{"pkg/engine": {"TestAnotherUsersStateRootIsRefused"}}},
	{"mirrors and token services that ask for a password", "A credential that was given goes to the registry of the name: to no mirror, and to no token service without TLS if the registry has it.",
		map[string][]string{"pkg/registry": {"TestGivenCredentialIsNotForMirrors", "TestTokenServiceWithoutTLSGetsNothing", "TestChallengeAfterRedirectIsNotAnswered"}}},
	{"programs of the host that are bound into containers", "What `--init` puts in is the container's own copy: a container that may mount, and makes it writable, changes nobody else's.",
		map[string][]string{inHere: {"TestInitIsTheContainersOwn"}}},
	{"users of one container in another", "Containers with `--userns auto`, also those made at the same time, have no id in common: files of one are nobody's in another, whatever its root may do. Device nodes of its image open to it those devices only that it was given.",
		map[string][]string{"test/cli": {"TestScripts"}}},
	{"fork bombs", "A container that forks faster than its processes can be listed is ended, or those that are left are named in time: `delete --force` neither goes on for ever nor tells of an end that was none.",
		map[string][]string{inRuntime: {"TestCrowdThatIsLeftIsNamed"}, "internal/ocicli": {"TestDeleteOfAForkBombEnds"}}},
	{"others on the message bus", "How a job of systemd's ended is believed of systemd alone, and no message makes its reader go on for ever or crash.",
		map[string][]string{"internal/systemd": {"TestScope"}, "internal/dbus": {"TestWireRefuses", "TestDecodeTrustsNoLength", "TestOn32Bits"}}},
	{"plugins of networks that print without end", "What a plugin of CNI prints is kept up to 1 MiB; one that prints more is ended, with all that it has started.",
		map[string][]string{inCNI: {"TestOutputOfPluginsIsBounded"}}},
	{"names of networks, devices and containers that are paths", "Names in annotations, records, journals, files of networks and the environment of plugins are checked where they are read and where they are used: no file is made, locked or deleted by them elsewhere.",
		map[string][]string{inCNI: {"TestNamesOfNetworksAreNoPaths"}, "internal/cniplugin": {"TestNamesThatPluginsAreToldAreNoPaths"}}},
	{"arguments for plugins of networks that break out", "An argument of an annotation stays one, and the commands that `explain` shows do in a shell what is done without one.",
		map[string][]string{inCNI: {"TestArgumentsStayOne", "TestShownCommandsAreQuoted"}}},
	{"descriptors of the runtime's own", "`--preserve-fds` passes on what the caller has left, and never what Go's runtime has opened under that number.",
		map[string][]string{"internal/ocicli": {"TestPreservedDescriptorsAreTheCallers"}}},
	{"CAP_SYS_PTRACE and a process that joins", "A process that `exec` brings into a container is born without the host's files in sight, by its root or a descriptor: no program with CAP_SYS_PTRACE gets hold of them through it.",
		map[string][]string{inRuntime: {"TestExecIsBornWithoutTheHostsFiles"}}},
	{"CAP_SYS_PTRACE and a container that joins", "The first process of a container that shares the processes of another one, and the one that opens its `/proc`, are born there without the host's files in sight: a program that looks through everybody's root, working directory and descriptors as fast as it can finds none in a hundred starts.",
		map[string][]string{inRuntime: {"TestSharedProcessesSeeNoFilesOfTheHost"}}},
	{"hooks and limits", "A hook in the container's namespaces is in its control groups.",
		map[string][]string{inRuntime: {"TestHooksAreInTheContainersGroups"}}},
	{"`exec` without a mount namespace", "A further process is confined to the container's root where no mount namespace is joined that would do it.",
		map[string][]string{inRuntime: {"TestContainerInTheHostsMountNamespace"}}},
}

const head = `# Attacks that must fail

<!-- Written by "make golden" out of test/security/attacks_test.go. -->

Each line is a class of attacks on programs that make containers, with the published cases, whichever program they were
in. The tests of a line run the attack and look at the kernel and at the host, or check that what it needs is refused. Those
that came with a change were seen to fail without it; this was not written down for each. Tests of profiles and labels need a kernel with the security module, and run in guests
(` + "`internal/testkit/guest`" + `). What else is promised is in [SECURITY.md](../SECURITY.md).

| known as | what must hold | tests |
|---|---|---|
`

// document writes the table.
func document() string {
	var b strings.Builder
	b.WriteString(head)
	for _, a := range attacks {
		var cells []string
		dirs := make([]string, 0, len(a.tests))
		for dir := range a.tests {
			dirs = append(dirs, dir)
		}
		slices.Sort(dirs)
		for _, dir := range dirs {
			cells = append(cells, "`"+dir+"`: `"+strings.Join(a.tests[dir], "`, `")+"`")
		}
		fmt.Fprintf(&b, "| %s | %s | %s |\n", a.known, a.must, strings.Join(cells, "; "))
	}
	return b.String()
}

// The page says what the table says, every test in it is one, and no line is without.
func TestEveryAttackHasItsTest(t *testing.T) {
	if *update {
		if err := os.WriteFile(page, []byte(document()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if string(text) != document() {
		t.Errorf("%s differs from the table; run make golden", page)
	}
	for _, a := range attacks {
		if len(a.tests) == 0 {
			t.Errorf("%s: no test", a.known)
		}
		for dir, names := range a.tests {
			defined := testsOf(t, dir)
			for _, name := range names {
				if !slices.Contains(defined, name) {
					t.Errorf("%s: %s has no test %s", a.known, dir, name)
				}
			}
		}
	}
}

var testFunction = regexp.MustCompile(`(?m)^func (Test\w+)\(t \*testing\.T\)`)

// testsOf lists the tests that a package directory of the module defines.
func testsOf(t *testing.T, dir string) []string {
	t.Helper()
	files, err := os.ReadDir("../../" + dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), "_test.go") {
			continue
		}
		text, err := os.ReadFile("../../" + dir + "/" + f.Name())
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range testFunction.FindAllStringSubmatch(string(text), -1) {
			names = append(names, m[1])
		}
	}
	return names
}
