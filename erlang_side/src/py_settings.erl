%% @doc A pool's options as the first frame takes them to Python.
%% @hidden
-module(py_settings).

-export([settings/2]).
-export_type([settings/0]).

-type settings() :: #{binary() => term()}.

%% @doc The settings of a worker, which first runs the code of `Journal'.
-spec settings(py_options:pool_options(), Journal :: [binary()]) -> settings().
settings(Opts = #{preload := Preload, allow := Allow}, Journal) ->
    %% Keys are binaries, and so is the atom for None: `none' itself would arrive
    %% as None.
    #{
        <<"none">> => atom_to_binary(maps:get(none, Opts)),
        <<"max_threads">> => maps:get(max_threads, Opts),
        <<"thread">> => maps:get(thread, Opts),
        <<"memory_limit">> => maps:get(memory_limit, Opts),
        <<"interrupt_after">> => maps:get(interrupt_after, Opts),
        <<"interrupt_grace">> => maps:get(interrupt_grace, Opts),
        <<"stop_timeout">> => maps:get(stop_timeout, Opts),
        <<"children">> => maps:get(children, Opts),
        <<"preload">> => [name(preload, Module) || Module <- Preload],
        <<"reload">> => reload(Opts),
        <<"allow">> => allow(Allow),
        <<"journal">> => Journal
    }.

reload(#{reload := true, python_path := Path}) -> [py_text:readable(Dir) || Dir <- Path];
reload(_) -> [].

allow(all) -> all;
allow(Allowed) -> [allowed(Item) || Item <- Allowed].

allowed({Module, Function}) -> {name(allow, Module), name(allow, Function)};
allowed(Module) -> name(allow, Module).

%% Or code, among what is preloaded.
name(_Option, Name) when is_atom(Name) -> py_name:normalized(atom_to_binary(Name));
name(Option, Name) -> py_name:normalized(py_text:utf8(Option, Name)).
