%% @doc A release is upgraded, and downgraded, while streams and calls run.
-module(py_upgrade_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1]).
-export([upgrade/1]).
%% Called in the node that is upgraded.
-export([start/0, check/1]).

-define(LONG, 20000).
-define(OLD, "0.1.0").
-define(NEW, "0.1.1").

-spec suite() -> [{atom(), term()}].
suite() ->
    [{timetrap, {minutes, 2}}].

-spec all() -> [atom()].
all() ->
    [upgrade].

-spec init_per_suite(ct_suite:ct_config()) -> ct_suite:ct_config() | {skip, string()}.
init_per_suite(Config) ->
    case code:lib_dir(sasl) of
        {error, bad_name} -> {skip, "this OTP has no release handler (sasl)"};
        _ -> Config
    end.

-spec end_per_suite(ct_suite:ct_config()) -> ok.
end_per_suite(_Config) ->
    ok.

%% What runs goes on over the upgrade and the way back, in the same processes, and in the new code.
-spec upgrade(ct_suite:ct_config()) -> ok.
upgrade(Config) ->
    Root = ?config(priv_dir, Config),
    Libs = filename:join(Root, "lib"),
    Lib = code:lib_dir(erlang_python),
    [library(Lib, Libs, Vsn) || Vsn <- [?OLD, ?NEW]],
    [Old, New] = [release(Root, Libs, Vsn) || Vsn <- [?OLD, ?NEW]],
    Ebins = [filename:join([Libs, "erlang_python-" ++ Vsn, "ebin"]) || Vsn <- [?OLD, ?NEW]],
    ok = systools:make_relup(New, [Old], [Old], [{path, Ebins}, {outdir, filename:dirname(New)}]),
    Releases = filename:join(Root, "releases"),
    {ok, [{release, _, _, Apps}]} = file:consult(Old ++ ".rel"),
    Dirs = [{App, Vsn, lib_dir(App, Libs)} || {App, Vsn} <- Apps],
    ok = release_handler:create_RELEASES(code:root_dir(), Releases, Old ++ ".rel", Dirs),
    {ok, Peer, _} = peer:start(#{
        connection => standard_io,
        args => ["-boot", Old, "-config", filename:join(filename:dirname(Old), "sys"), "-sasl", "releases_dir", io_lib:write_string(Releases), "-sasl", "sasl_error_logger", "false"] ++
            lists:append([["-pa", filename:dirname(code:which(Module))] || Module <- [?MODULE, test_eventually]]),
        wait_boot => ?LONG
    }),
    try
        Handle = fun(Function, Args) -> peer:call(Peer, release_handler, Function, Args, ?LONG) end,
        Check = fun(Vsn) -> ok = peer:call(Peer, ?MODULE, check, [Vsn], ?LONG) end,
        ok = peer:call(Peer, ?MODULE, start, [], ?LONG),
        Check(?OLD),
        {ok, ?NEW} = Handle(set_unpacked, [New ++ ".rel", [{erlang_python, ?NEW, Libs}]]),
        {ok, ?OLD, _} = Handle(check_install_release, [?NEW]),
        {ok, ?OLD, _} = Handle(install_release, [?NEW]),
        Check(?NEW),
        ok = Handle(make_permanent, [?NEW]),
        Check(?NEW),
        {ok, ?OLD, _} = Handle(install_release, [?OLD]),
        Check(?OLD)
    after
        peer:stop(Peer)
    end.

%% The library with another version, of which every module has code of its own.
library(From, Libs, Vsn) ->
    Lib = filename:join(Libs, "erlang_python-" ++ Vsn),
    Ebin = filename:join(Lib, "ebin"),
    ok = filelib:ensure_dir(filename:join(Ebin, "x")),
    {ok, Priv} = file:read_link_all(filename:join(From, "priv")),
    ok = file:make_symlink(filename:absname(Priv, From), filename:join(Lib, "priv")),
    {ok, [{application, App, Keys}]} = file:consult(filename:join(From, "ebin/erlang_python.app")),
    write(filename:join(Ebin, "erlang_python.app"), {application, App, lists:keystore(vsn, 1, Keys, {vsn, Vsn})}),
    {ok, [{_, Up, Down}]} = file:consult(filename:join(From, "ebin/erlang_python.appup")),
    write(filename:join(Ebin, "erlang_python.appup"), {Vsn, Up, Down}),
    lists:foreach(
        fun(Beam) ->
            {ok, {_, [{abstract_code, {_, [File, Module | Forms]}}]}} = beam_lib:chunks(Beam, [abstract_code]),
            {ok, _, Binary} = compile:forms([File, Module, {attribute, 1, release, Vsn} | Forms], []),
            ok = file:write_file(filename:join(Ebin, filename:basename(Beam)), Binary)
        end,
        filelib:wildcard(filename:join(From, "ebin/*.beam"))
    ).

release(Root, Libs, Vsn) ->
    Name = filename:join([Root, "releases", Vsn, "shop"]),
    ok = filelib:ensure_dir(Name),
    Apps = [{App, version(App)} || App <- [kernel, stdlib, sasl]] ++ [{erlang_python, Vsn}],
    write(Name ++ ".rel", {release, {"shop", Vsn}, {erts, erlang:system_info(version)}, Apps}),
    Ebin = filename:join([Libs, "erlang_python-" ++ Vsn, "ebin"]),
    ok = systools:make_script(Name, [local, {path, [Ebin]}, {outdir, filename:dirname(Name)}]),
    {ok, _} = file:copy(Name ++ ".boot", filename:join(filename:dirname(Name), "start.boot")),
    Pool = #{workers => 1, python => os:getenv("ERLANG_PYTHON", "python3")},
    write(filename:join(filename:dirname(Name), "sys.config"), [{erlang_python, [{pools, #{default => Pool}}]}]),
    Name.

lib_dir(erlang_python, Libs) -> Libs;
lib_dir(App, _Libs) -> filename:dirname(code:lib_dir(App)).

version(App) ->
    _ = application:load(App),
    {ok, Vsn} = application:get_key(App, vsn),
    Vsn.

write(File, Term) ->
    ok = file:write_file(File, io_lib:format("~tp.~n", [Term])).

%%% In the node that is upgraded.

%% Streams, a call, a channel and a handle, of a process that goes on with them when it is asked.
-spec start() -> ok.
start() ->
    ok = py:exec(
        "import itertools, time\n"
        "def ticks():\n"
        "    for n in itertools.count():\n"
        "        time.sleep(0.01)\n"
        "        yield n\n"
    ),
    Parent = self(),
    spawn(fun() ->
        register(?MODULE, self()),
        {ok, Ref} = py:stream_start('__main__', ticks, [], #{window => 16}),
        {ok, In} = py:channel(),
        {ok, Out} = py:stream_start(builtins, iter, [In]),
        {ok, List} = py:call(builtins, list, [[1]], #{}, #{return => handle}),
        Call = py:spawn_call(time, sleep, [1000], #{}, #{timeout => infinity}),
        {monitors, Monitors} = process_info(self(), monitors),
        Parent ! started,
        user({Ref, In, Out, List, Call}, {workers(), Monitors}, 0)
    end),
    receive
        started -> ok
    end.

user(Running = {Ref, In, Out, List, Call}, Processes, Next) ->
    receive
        {check, From, Vsn} ->
            Values = [element(2, {ok, _} = py:stream_next(Ref, ?LONG)) || _ <- lists:seq(1, 50)],
            Values = lists:seq(Next, Next + 49),
            ok = py:channel_send(In, Next),
            {ok, Next} = py:stream_next(Out, ?LONG),
            {ok, 1} = py:call(List, '__len__', []),
            {error, timeout} = py:await(py:spawn_call(time, sleep, [1000]), 0),
            {ok, 2.0} = py:call(math, sqrt, [4]),
            {ok, [0, 1]} = py:stream(builtins, range, [2]),
            {monitors, Monitors} = process_info(self(), monitors),
            Processes = {workers(), Monitors},
            true = lists:all(fun is_process_alive/1, [Pid || {process, Pid} <- Monitors]),
            receive
                {Call, _} -> error(ended)
            after 0 -> ok
            end,
            [Vsn] = lists:usort([Loaded || {Module, _} <- code:all_loaded(), Loaded <- release_of(Module)]),
            From ! checked,
            user(Running, Processes, Next + 50)
    end.

-spec check(string()) -> ok.
check(Vsn) ->
    Monitor = monitor(process, ?MODULE),
    ?MODULE ! {check, self(), Vsn},
    receive
        checked -> demonitor(Monitor, [flush]), ok;
        {'DOWN', Monitor, process, _, Why} -> error(Why)
    end.

workers() ->
    #{restarts := 0, workers := Workers} = py:info(default),
    [{Pid, OsPid} || #{pid := Pid, os_pid := OsPid} <- Workers].

%% The code that runs, and not the file.
release_of(Module) ->
    case lists:prefix("py_", atom_to_list(Module)) orelse Module =:= py of
        true -> proplists:get_all_values(release, Module:module_info(attributes));
        false -> []
    end.
