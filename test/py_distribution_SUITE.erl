%% @doc Distribution that is started and stopped in a running node changes its name, and
%% nothing for streams, calls and workers.
-module(py_distribution_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0]).
-export([started_and_stopped/1, a_worker_started_under_a_name/1, while_frames_come/1]).
%% Called in the other node.
-export([start/1, check/1, name/1, stop/0, start_pool/1, keep/0, route/1, addresses/1, echoes/1]).

-define(LONG, 60000).

-spec suite() -> [{atom(), term()}].
suite() ->
    [{timetrap, {minutes, 3}}].

-spec all() -> [atom()].
all() ->
    [started_and_stopped, a_worker_started_under_a_name, while_frames_come].

-spec started_and_stopped(ct_suite:ct_config()) -> term().
started_and_stopped(_Config) ->
    _ = os:cmd("epmd -daemon"),
    %% A node that has no name yet, by another way than distribution.
    {ok, Peer, _} = peer:start(#{connection => standard_io, args => paths(), wait_boot => ?LONG}),
    try
        call(Peer, start, [os:getenv("ERLANG_PYTHON", "python3")]),
        call(Peer, check, [0]),
        Name = "py_name_" ++ os:getpid() ++ "@127.0.0.1",
        call(Peer, name, [list_to_atom(Name)]),
        call(Peer, check, [1]),
        call(Peer, stop, []),
        call(Peer, check, [2]),
        call(Peer, name, [list_to_atom("other_" ++ Name)]),
        call(Peer, check, [3]),
        %% A name that it has had before, of another creation.
        call(Peer, stop, []),
        call(Peer, name, [list_to_atom(Name)]),
        call(Peer, check, [4])
    after
        peer:stop(Peer)
    end.

%% Python knows its worker by a name that the node has had for no request.
-spec a_worker_started_under_a_name(ct_suite:ct_config()) -> term().
a_worker_started_under_a_name(_Config) ->
    _ = os:cmd("epmd -daemon"),
    {ok, Peer, _} = peer:start(#{connection => standard_io, args => paths(), wait_boot => ?LONG}),
    try
        call(Peer, name, [list_to_atom("py_brief_" ++ os:getpid() ++ "@127.0.0.1")]),
        call(Peer, start_pool, [os:getenv("ERLANG_PYTHON", "python3")]),
        call(Peer, stop, []),
        call(Peer, keep, []),
        call(Peer, route, [list_to_atom("py_other_" ++ os:getpid() ++ "@127.0.0.1")])
    after
        peer:stop(Peer)
    end.

%% The name changes between any two instructions of whoever reads frames, and each frame comes to the
%% process that it is for.
-spec while_frames_come(ct_suite:ct_config()) -> term().
while_frames_come(_Config) ->
    _ = os:cmd("epmd -daemon"),
    Name = list_to_atom("py_frames_" ++ os:getpid() ++ "@127.0.0.1"),
    {ok, Peer, _} = peer:start(#{connection => standard_io, args => paths(), wait_boot => ?LONG}),
    try
        call(Peer, addresses, [Name]),
        call(Peer, start_pool, [os:getenv("ERLANG_PYTHON", "python3")]),
        call(Peer, echoes, [Name])
    after
        peer:stop(Peer)
    end.

paths() ->
    Ebins = [filename:dirname(code:which(Module)) || Module <- [py, ?MODULE, test_eventually]],
    lists:append([["-pa", Ebin] || Ebin <- Ebins]).

call(Peer, Function, Args) ->
    peer:call(Peer, ?MODULE, Function, Args, ?LONG).

%%% In the other node.

%% Streams of all kinds run, and a process waits in a call.
-spec start(string()) -> ok.
start(Python) ->
    ok = application:load(erlang_python),
    ok = application:set_env(erlang_python, pools, #{default => #{workers => 1, python => Python}}),
    {ok, _} = application:ensure_all_started(erlang_python),
    ok = py:exec(
        "import asyncio, erlang, itertools, time\n"
        "kept = []\n"
        "def keep(pid): kept.append(pid)\n"
        "def tell(name): [erlang.send(pid, 'reached') for pid in kept]; erlang.send(name, 'named')\n"
        "def ticks():\n"
        "    for n in itertools.count():\n"
        "        time.sleep(0.01)\n"
        "        yield n\n"
        "async def async_ticks():\n"
        "    for n in itertools.count():\n"
        "        await asyncio.sleep(0.01)\n"
        "        yield n\n"
        "def owned():\n"
        "    for n in itertools.count():\n"
        "        time.sleep(0.01)\n"
        "        erlang.send(erlang.stream().owner, n)\n"
        "        yield n\n"
    ),
    Keeper = self(),
    spawn(fun() ->
        register(?MODULE, self()),
        Refs = [
            begin
                {ok, Ref} = py:stream_start('__main__', G, [], #{timeout => ?LONG}),
                Ref
            end
         || G <- [ticks, async_ticks]
        ],
        {ok, Owned} = py:stream_start('__main__', owned, [], #{timeout => ?LONG}),
        Call = py:spawn_call(time, sleep, [5]),
        #{workers := Workers} = py:info(default),
        {ok, none} = py:call('__main__', keep, [self()]),
        Keeper ! started,
        loop(Refs, Owned, Call, [Pid || #{pid := Pid} <- Workers])
    end),
    receive
        started -> ok
    end.

%% The process that all is for: a call to it checks that all goes on.
loop(Refs, Owned, Call, Workers) ->
    receive
        {check, From, Round} ->
            From ! {checked, try check(Round, Refs, Owned, Call, Workers) catch _:Reason -> {failed, Reason} end},
            loop(Refs, Owned, Call, Workers)
    end.

-spec check(non_neg_integer()) -> ok.
check(Round) ->
    ?MODULE ! {check, self(), Round},
    receive
        {checked, Result} -> ok = Result
    end.

check(Round, Refs, Owned, Call, Workers) ->
    [follow(Ref, 20) || Ref <- [Owned | Refs]],
    %% It is sent to the pid that the stream names as its owner.
    {ok, Value} = py:stream_next(Owned, ?LONG),
    receive
        Value -> ok
    after 5000 -> error(not_sent)
    end,
    {ok, 2.0} = py:call(math, sqrt, [4]),
    {ok, [0, 1, 2]} = py:stream(builtins, range, [3]),
    %% The pid that Python has kept under each name that the node has had.
    {ok, none} = py:call('__main__', tell, [{?MODULE, node()}]),
    [
        receive
            <<"reached">> -> ok
        after 5000 -> error({untold, N})
        end
     || N <- lists:seq(0, Round)
    ],
    {ok, none} = py:call('__main__', keep, [self()]),
    receive
        <<"named">> -> ok
    after 5000 -> error(not_named)
    end,
    {ok, Started} = py:stream_start('__main__', ticks, []),
    {ok, 0} = py:stream_next(Started, ?LONG),
    ok = py:stream_cancel(Started, [flush]),
    Round =:= 4 andalso ({ok, none} = py:await(Call, ?LONG)),
    #{workers := Now, restarts := 0} = py:info(default),
    Workers = [Pid || #{pid := Pid} <- Now],
    ok.

%% The next values are in order.
follow(Ref, N) ->
    {ok, First} = py:stream_next(Ref, ?LONG),
    [{ok, V} = py:stream_next(Ref, ?LONG) || V <- lists:seq(First + 1, First + N)].

-spec name(node()) -> ok.
name(Name) ->
    %% Distribution that was just stopped refuses for a moment to be started.
    test_eventually:equal(ok, fun() -> element(1, net_kernel:start([Name, longnames])) end),
    Name = node(),
    ok.

-spec stop() -> ok.
stop() ->
    ok = net_kernel:stop(),
    %% The name goes when net_kernel's process has ended, which may be a moment later.
    test_eventually:equal(nonode@nohost, fun erlang:node/0).

-spec start_pool(string()) -> ok.
start_pool(Python) ->
    ok = application:load(erlang_python),
    ok = application:set_env(erlang_python, pools, #{default => #{workers => 1, python => Python}}),
    {ok, _} = application:ensure_all_started(erlang_python),
    ok.

-spec keep() -> ok.
keep() ->
    {ok, List} = py:call(builtins, list, [[1]], #{}, #{return => handle}),
    {ok, 1} = py:call(List, '__len__', []),
    py:release(List).

%% Each address is that of a process or an alias of this node, at any time.
-spec addresses(node()) -> ok.
addresses(Name) ->
    Readers = [
        spawn_monitor(fun() ->
            %% They take what the start and the stop of distribution leave of the processors.
            normal = process_flag(priority, low),
            Alias = erlang:alias(),
            read(py_frame:address(self()), self()),
            read(py_frame:address(Alias), Alias)
        end)
     || _ <- lists:seq(1, 8)
    ],
    renamed(40, Name),
    [Reader ! stop || {Reader, _} <- Readers, _ <- [pid, alias]],
    [receive {'DOWN', Monitor, process, Reader, Reason} -> normal = Reason end || {Reader, Monitor} <- Readers],
    ok.

read(Address = <<_, Rest/binary>>, Id) ->
    Id = py_frame:addressee(Rest),
    receive
        stop -> ok
    after 0 -> read(Address, Id)
    end.

renamed(0, _Name) ->
    ok;
renamed(Times, Name) ->
    ok = name(Name),
    ok = stop(),
    renamed(Times - 1, Name).

%% A channel's values come back as a stream's, and what Python says of them is for the channel.
-spec echoes(node()) -> ok.
echoes(Name) ->
    ok = py:exec("def echo(channel):\n    for value in channel: yield value\n"),
    ok = py:exec("async def async_echo(channel):\n    async for value in channel: yield value\n"),
    Echoes = [spawn_monitor(fun() -> echo(Function) end) || Function <- [echo, async_echo]],
    renamed(20, Name),
    [Echo ! stop || {Echo, _} <- Echoes],
    [receive {'DOWN', Monitor, process, Echo, Reason} -> normal = Reason end || {Echo, Monitor} <- Echoes],
    ok.

echo(Function) ->
    {ok, In} = py:channel(#{window => 4}),
    {ok, Ref} = py:stream_start('__main__', Function, [In], #{window => 4}),
    echo(In, Ref, 0).

echo(In, Ref, N) ->
    [ok = py:channel_send(In, V, ?LONG) || V <- lists:seq(N, N + 7)],
    [{ok, V} = py:stream_next(Ref, ?LONG) || V <- lists:seq(N, N + 7)],
    receive
        stop ->
            ok = py:channel_close(In),
            done = py:stream_next(Ref, ?LONG)
    after 0 -> echo(In, Ref, N + 8)
    end.

%% A request on its way to a pool of this node goes there under each name.
-spec route(node()) -> ok.
route(Name) ->
    {ok, Route} = py_cluster:route(default),
    ok = name(Name),
    {Name, _} = py_cluster:next(Route),
    ok.
