package container

import "testing"

// Every form of --secret, and what is none.
func TestParseSecret(t *testing.T) {
	for s, want := range map[string]Secret{
		"db":                                 {Name: "db", Target: "/run/secrets/db", Mode: 0o444},
		"db,target=key":                      {Name: "db", Target: "/run/secrets/key", Mode: 0o444},
		"source=db,target=/etc/../etc/key":   {Name: "db", Target: "/etc/key", Mode: 0o444},
		"src=db,mode=0400,uid=1000,gid=4":    {Name: "db", Target: "/run/secrets/db", Mode: 0o400, UID: 1000, GID: 4},
		"db,type=env":                        {Name: "db", Env: "db"},
		"db,type=env,target=PASSWORD":        {Name: "db", Env: "PASSWORD"},
		"db,type=mount,target=/key,mode=777": {Name: "db", Target: "/key", Mode: 0o777},
	} {
		if got, err := ParseSecret(s); err != nil || got != want {
			t.Errorf("%s: %+v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", ",target=x", "a/b", "a:b", "db,", "db,other=1", "db,mode=1777", "db,mode=8", "db,uid=-1", "db,uid=4294967295", "db,gid=x", "db,target=../x",
		"db,target=a/b", "db,target=/", "db,target=/run/secrets", "db,target=.", "db,target=/x/", "db,type=env,uid=1", "db,type=env,target=A=B", "db,type=env,target=PATH", "a.b,type=env", "db,type=x"} {
		if got, err := ParseSecret(s); err == nil {
			t.Errorf("%q: %+v", s, got)
		}
	}
}
