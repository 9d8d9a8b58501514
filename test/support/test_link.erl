%% @doc A way between two nodes that takes its time: bytes are passed on by this node, after a delay
%% and at a rate, or not at all, as when a cable is out. Each connection has a process for each
%% direction that reads and one that writes.
-module(test_link).

-export([start/1, set/2, stop/1, port/1, member/3]).
-export_type([link/0]).

-type way() :: #{delay => non_neg_integer(), rate => pos_integer() | infinity, cut => boolean()}.
-opaque link() :: {pid(), counters:counters_ref()}.

%% Bytes that may wait in each direction; at a rate as few as in a good router.
-define(MOST, 4 * 1024 * 1024).
-define(MOST_AT_RATE, 128 * 1024).
-define(RECEIVE_BUFFER, 128 * 1024).

%% @doc Starts a node that is reached over a link.
-spec member(#{atom() => map()}, way(), [string()]) -> {test_cluster:member(), link()}.
member(Pools, Way, Args) ->
    Listen = free_port(),
    Link = {_, _} = start(#{to => Listen}),
    ok = set(Link, Way),
    Port = integer_to_list(port(Link)),
    Listened = integer_to_list(Listen),
    Member = test_cluster:start(Pools, #{
        args => Args ++ [
            "-epmd_module", "test_epmd",
            "-kernel", "inet_dist_listen_min", Listened, "-kernel", "inet_dist_listen_max", Listened
        ],
        env => [{"LINK_PORT", Port}, {"LISTEN_PORT", Listened}]
    }),
    {Member, Link}.

free_port() ->
    {ok, Socket} = gen_tcp:listen(0, [{ip, {127, 0, 0, 1}}]),
    {ok, Port} = inet:port(Socket),
    ok = gen_tcp:close(Socket),
    Port.

%% @doc Starts a link to a port of this machine, or of another address than its own, and from one.
-spec start(#{to := inet:port_number(), address => inet:ip4_address(), listen => inet:ip4_address()}) -> link().
start(Opts = #{to := Port}) ->
    To = {maps:get(address, Opts, {127, 0, 0, 1}), Port},
    Listen = maps:get(listen, Opts, {127, 0, 0, 1}),
    %% Delay in milliseconds, bytes a second (0: no limit), and whether it is cut.
    Way = counters:new(3, []),
    Parent = self(),
    Pid = spawn(fun() ->
        {ok, Socket} = gen_tcp:listen(0, [binary, {ip, Listen}, {active, false}, {nodelay, true}, {backlog, 50}, {recbuf, ?RECEIVE_BUFFER}]),
        Parent ! {self(), ready},
        Acceptor = spawn_link(fun() -> accept(Socket, To, Way) end),
        serve(Socket, Acceptor)
    end),
    receive
        {Pid, ready} -> {Pid, Way}
    end.

serve(Socket, Acceptor) ->
    receive
        {port, From} ->
            {ok, Port} = inet:port(Socket),
            From ! {self(), Port},
            serve(Socket, Acceptor);
        stop ->
            ok
    end.

%% @doc The port that it listens on.
-spec port(link()) -> inet:port_number().
port({Pid, _}) ->
    Pid ! {port, self()},
    receive
        {Pid, Port} -> Port
    end.

%% @doc Changes the way.
-spec set(link(), way()) -> ok.
set({_, Way}, New) ->
    maps:foreach(
        fun
            (delay, Ms) -> counters:put(Way, 1, Ms);
            (rate, infinity) -> counters:put(Way, 2, 0);
            (rate, Rate) -> counters:put(Way, 2, Rate);
            (cut, true) -> counters:put(Way, 3, 1);
            (cut, false) -> counters:put(Way, 3, 0)
        end,
        New
    ).

-spec stop(link()) -> ok.
stop({Pid, _}) ->
    exit(Pid, kill),
    ok.

accept(Socket, To = {Address, Port}, Way) ->
    {ok, Near} = gen_tcp:accept(Socket),
    Owner = spawn(fun() ->
        receive
            go -> ok
        end,
        case gen_tcp:connect(Address, Port, [binary, {active, false}, {nodelay, true}, {recbuf, ?RECEIVE_BUFFER}]) of
            {ok, Far} ->
                process_flag(trap_exit, true),
                _ = [spawn_link(fun() -> read(A, B, Way) end) || {A, B} <- [{Near, Far}, {Far, Near}]],
                receive
                    {'EXIT', _, _} -> ok
                end,
                %% The end of a connection does not pass a cable that is out.
                await_cable(Way),
                gen_tcp:close(Near),
                gen_tcp:close(Far);
            {error, _} ->
                gen_tcp:close(Near)
        end
    end),
    ok = gen_tcp:controlling_process(Near, Owner),
    Owner ! go,
    accept(Socket, To, Way).

read(From, To, Way) ->
    Reader = self(),
    Writer = spawn_link(fun() -> write(To, Reader, Way) end),
    read(From, Writer, 0, Way).

read(From, Writer, Waiting, Way) ->
    Most =
        case counters:get(Way, 2) of
            0 -> ?MOST;
            _ -> ?MOST_AT_RATE
        end,
    case Waiting > Most of
        true ->
            receive
                {written, Size} -> read(From, Writer, Waiting - Size, Way)
            end;
        false ->
            case gen_tcp:recv(From, 0) of
                {ok, Data} ->
                    Writer ! {Data, erlang:monotonic_time(millisecond) + counters:get(Way, 1)},
                    read(From, Writer, written(Waiting + byte_size(Data)), Way);
                {error, Reason} ->
                    exit(Reason)
            end
    end.

written(Waiting) ->
    receive
        {written, Size} -> written(Waiting - Size)
    after 0 -> Waiting
    end.

write(To, Reader, Way) ->
    receive
        {Data, At} ->
            timer:sleep(max(0, At - erlang:monotonic_time(millisecond))),
            await_cable(Way),
            paced(To, Data, counters:get(Way, 2)),
            Reader ! {written, byte_size(Data)},
            write(To, Reader, Way)
    end.

await_cable(Way) ->
    case counters:get(Way, 3) of
        0 ->
            ok;
        1 ->
            timer:sleep(5),
            await_cable(Way)
    end.

paced(To, Data, Rate) ->
    case gen_tcp:send(To, Data) of
        ok when Rate =:= 0 -> ok;
        ok -> timer:sleep(byte_size(Data) * 1000 div Rate);
        {error, Reason} -> exit(Reason)
    end.
