#!/usr/bin/env escript
%% A cluster on one machine: three nodes with Python and this one, which has none. Streams are
%% spread over them; one node is killed and one is drained while they run, and each event is printed
%% as it happens. script/cluster-demo starts it.
-mode(compile).

main([]) ->
    _ = os:cmd("epmd -daemon"),
    {ok, _} = net_kernel:start([list_to_atom("ask_" ++ os:getpid() ++ "@127.0.0.1"), longnames]),
    ok = application:load(erlang_python),
    ok = application:set_env(erlang_python, pools, #{}),
    {ok, _} = application:ensure_all_started(erlang_python),
    put(begun, now_ms()),
    say("three nodes are started, each with a pool of one Python process"),
    Members = [One, Two, Three] = [member(Name) || Name <- ["one", "two", "three"]],
    await(fun() -> length(py:nodes(numbers)) =:= 3 end),
    say("py:nodes(numbers): ~0p", [py:nodes(numbers)]),
    ok = py:exec(code(), #{pool => {numbers, all}}),

    say("six streams, each on the node that {numbers, any} chooses"),
    Watched = [watch(N) || N <- lists:seq(1, 6)],
    timer:sleep(1500),
    spread(Watched),

    say("kill -9 of ~s", [name(One)]),
    ok = kill(One),
    timer:sleep(1500),
    spread(Watched),

    say("~s is drained: nothing new goes there, what runs may end within 500 ms", [name(Two)]),
    {error, {busy, Busy}} = py:drain({numbers, node_of(Two)}, 500),
    say("py:drain: {error,{busy,~b}}; py:nodes(numbers): ~0p", [Busy, py:nodes(numbers)]),
    say("a call with {numbers, any} runs on ~s", [short(call({numbers, any}))]),
    {error, draining} = py:call(os, getpid, [], #{}, #{pool => {numbers, node_of(Two)}}),
    say("a call with {numbers, ~s} is {error,draining}", [name(Two)]),
    _ = [Pid ! {leave, node_of(Two)} || {Pid, _} <- Watched],
    ok = py:drain({numbers, node_of(Two)}, 5000),
    say("its streams were cancelled: py:drain is ok, and the node may be stopped"),
    stop(Two),
    timer:sleep(500),
    spread(Watched),

    _ = [Pid ! stop || {Pid, _} <- Watched],
    Values = lists:sum([receive {'DOWN', M, process, P, End} -> {values, N} = End, N end || {P, M} <- Watched]),
    say("~b values in all, in order and without a gap; each stream had one end", [Values]),
    stop(Three),
    _ = Members,
    ok.

code() ->
    "import time, erlang\n"
    "def where():\n"
    "    return str(erlang.whereis('py_sup').node)\n"
    "def tick():\n"
    "    n = 0\n"
    "    while True:\n"
    "        yield n\n"
    "        n += 1\n"
    "        time.sleep(0.01)\n".

%% One stream after another: when one ends, the next goes to whoever is there.
watch(N) ->
    Demo = self(),
    spawn_monitor(fun() ->
        put(begun, begun(Demo)),
        watch(N, 0)
    end).

begun(Demo) ->
    {dictionary, Dictionary} = process_info(Demo, dictionary),
    proplists:get_value(begun, Dictionary).

watch(N, Values) ->
    {ok, Where} = py:call('__main__', where, [], #{}, #{pool => {numbers, any}}),
    {ok, Ref} = py:stream_start('__main__', tick, [], #{pool => {numbers, binary_to_atom(Where)}}),
    watch(N, Ref, Where, 0, Values).

watch(N, Ref, Where, Next, Values) ->
    receive
        {py_stream, Ref, {data, Next}} ->
            watch(N, Ref, Where, Next + 1, Values + 1);
        {py_stream, Ref, {error, Reason}} ->
            say("  stream ~b on ~s: ~b values, then {error,~0p}; it goes elsewhere", [N, short(Where), Next, Reason]),
            watch(N, Values);
        {leave, Node} ->
            atom_to_binary(Node) =:= Where andalso py:stream_cancel(Ref),
            watch(N, Ref, Where, Next, Values);
        {where, From} ->
            From ! {self(), Where},
            watch(N, Ref, Where, Next, Values);
        stop ->
            py:stream_cancel(Ref, [flush]),
            exit({values, Values})
    end.

spread(Watched) ->
    Places = [
        begin
            Pid ! {where, self()},
            receive
                {Pid, Where} -> short(Where);
                {'DOWN', Monitor, process, Pid, Reason} -> exit(Reason)
            end
        end
     || {Pid, Monitor} <- Watched
    ],
    say("streams are on: ~s", [lists:join(", ", Places)]).

call(Pool) ->
    {ok, Where} = py:call('__main__', where, [], #{}, #{pool => Pool}),
    Where.

%%% Nodes, held by their standard input and output, so that they may be killed.

member(Name) ->
    Paths = lists:append([["-pa", Dir] || Dir <- code:get_path(), string:find(Dir, "erlang_python") =/= nomatch]),
    {ok, Peer, Node} = peer:start(#{
        name => peer:random_name(Name),
        host => "127.0.0.1",
        longnames => true,
        connection => standard_io,
        args => ["-setcookie", atom_to_list(erlang:get_cookie()) | Paths]
    }),
    ok = peer:call(Peer, application, load, [erlang_python]),
    Pools = #{numbers => #{workers => 1, cluster => true}},
    ok = peer:call(Peer, application, set_env, [erlang_python, pools, Pools]),
    {ok, _} = peer:call(Peer, application, ensure_all_started, [erlang_python], 60000),
    true = net_kernel:connect_node(Node),
    {Name, Peer, Node}.

name({Name, _, _}) -> Name.
node_of({_, _, Node}) -> Node.

kill({_, Peer, _}) ->
    _ = os:cmd("kill -9 " ++ peer:call(Peer, os, getpid, [])),
    ok.

stop({_, Peer, _}) ->
    peer:stop(Peer).

short(Node) -> hd(string:split(Node, "-")).

await(Fun) ->
    case Fun() of
        true ->
            ok;
        false ->
            timer:sleep(10),
            await(Fun)
    end.

say(Text) -> say(Text, []).
say(Format, Args) ->
    io:format("~6.2f s  " ++ Format ++ "~n", [(now_ms() - get(begun)) / 1000 | Args]).

now_ms() -> erlang:monotonic_time(millisecond).
