%% @doc A model of streams and calls: random commands, what each of them may lead to, and the
%% shortest list of commands that leads to something else.
%%
%% A command names a stream by a number, which is taken modulo the number of streams, so any
%% part of a list of commands can be run as well. That is what makes shrinking simple.
-module(test_model).

-export([commands/1, run/1, shrink/2]).
-export_type([command/0]).

-type kind() ::
    count | acount | forever | aforever | failing | afailing | slow | aslow | stuck | astuck.
-type command() ::
    {start, kind(), N :: non_neg_integer(), map(), Starter :: owner | other}
    | {read, Stream :: pos_integer(), Events :: pos_integer()}
    | {demand, Stream :: pos_integer(), pos_integer()}
    | {cancel, Stream :: pos_integer()}
    | {flush, Stream :: pos_integer()}
    | {kill_owner, Stream :: pos_integer()}
    | {kill_worker, pos_integer()}
    | heal
    | restart_pool
    | {call, echo | aecho | fail | spin, timeout()}
    | {collect, kind(), N :: non_neg_integer(), map()}.

-define(MODULE_NAME, numbers_from_zero).
%% Longer than anything takes that comes at all.
-define(LOST_MS, 10000).
%% What a command to read waits for at most, which need not come.
-define(READ_MS, 10).

-record(stream, {
    owner :: pid(),
    ref :: reference(),
    kind :: kind(),
    n :: non_neg_integer(),
    opts :: map(),
    %% How many deaths of workers can have nothing to do with it.
    deaths :: non_neg_integer(),
    demanded = infinity :: non_neg_integer() | infinity,
    is_cancelled = false :: boolean()
}).

-record(state, {
    streams = [] :: [#stream{}],
    %% How many workers were killed, and the last of them.
    deaths = 0 :: non_neg_integer(),
    killed = [] :: [pid()],
    %% How many of the deaths cannot meet anything that starts now.
    healed = 0 :: non_neg_integer(),
    is_whole = true :: boolean()
}).

%%% Commands.

%% @doc As many commands, the same for the same state of `rand'.
-spec commands(non_neg_integer()) -> [command()].
commands(Length) ->
    [command(rand:uniform(100)) || _ <- lists:seq(1, Length)].

command(P) when P =< 35 -> {start, kind(), number(), options(), one_of([owner, other])};
command(P) when P =< 55 -> {read, rand:uniform(20), one_of([1, 2, 10, 500])};
command(P) when P =< 65 -> {demand, rand:uniform(20), one_of([1, 3, 1000])};
command(P) when P =< 72 -> {cancel, rand:uniform(20)};
command(P) when P =< 79 -> {flush, rand:uniform(20)};
command(P) when P =< 84 -> {kill_owner, rand:uniform(20)};
command(P) when P =< 87 -> {kill_worker, rand:uniform(2)};
command(P) when P =< 88 -> heal;
command(P) when P =< 89 -> restart_pool;
command(P) when P =< 95 -> {call, one_of([echo, aecho, fail, spin]), one_of([1, 20, 5000])};
command(_) -> {collect, one_of([count, acount, failing, afailing, slow, aslow]), number(), taking()}.

kind() ->
    one_of([count, acount, forever, aforever, failing, afailing, slow, aslow, stuck, astuck]).

number() ->
    one_of([0, 1, 2, 3, 8, 20, 100, 3000]).

taking() ->
    one_of([#{}, #{take => one_of([1, 2, 3, 8, 50])}]).

options() ->
    lists:foldl(
        fun(Option, Options) -> maps:merge(Options, one_of([#{}, #{}, Option])) end,
        taking(),
        [
            #{window => one_of([1, 2, 7, 100])},
            #{batch => one_of([1, 2, 30])},
            #{demand => one_of([0, 1, 5, 100])},
            #{timeout => one_of([5, 50, 10000])},
            #{window_bytes => one_of([1, 100])}
        ]
    ).

one_of(List) ->
    lists:nth(rand:uniform(length(List)), List).

%%% Shrinking.

%% @doc A shorter list for which `Fails' is still true, given one for which it is.
-spec shrink([command()], fun(([command()]) -> boolean())) -> [command()].
shrink(Commands, Fails) ->
    shrink(max(1, length(Commands) div 2), 0, Commands, Fails).

%% Leaves out that many commands from there on, if it fails without them.
shrink(Size, At, Commands, Fails) when At < length(Commands) ->
    {Before, Rest} = lists:split(At, Commands),
    Without = Before ++ lists:nthtail(min(Size, length(Rest)), Rest),
    case Fails(Without) of
        true -> shrink(Size, At, Without, Fails);
        false -> shrink(Size, At + Size, Commands, Fails)
    end;
shrink(1, _, Commands, _Fails) ->
    Commands;
shrink(Size, _, Commands, Fails) ->
    shrink(Size div 2, 0, Commands, Fails).

%%% Running.

%% @doc Runs commands in the pool `default', from a process of their own, and says why the
%% outcome is none that may be.
-spec run([command()]) -> ok | {broken, term()}.
run(Commands) ->
    {Pid, Monitor} = spawn_monitor(fun() -> run_all(Commands, #state{}) end),
    receive
        {'DOWN', Monitor, process, Pid, normal} -> ok;
        {'DOWN', Monitor, process, Pid, Reason} -> {broken, Reason}
    end.

run_all(Commands, State) ->
    Last = #state{streams = Streams} = lists:foldl(
        fun(Command, Before) ->
            After = step(Command, noticed(Before)),
            _ = [check(Stream) || Stream <- After#state.streams],
            After
        end,
        State,
        Commands
    ),
    Ended = [finish(Stream, Last) || Stream <- Streams],
    %% The next list starts with workers of which none is about to end.
    _ = step(heal, Last),
    test_workers:idle(default),
    0 = ets:info(py_streams, size),
    %% Nothing runs any more, so nothing can come any more either.
    [nothing_more(Stream) || Stream <- Ended],
    [] = mail(self()),
    ok.

%% A pool that does not offer a dead worker any more has noticed its death. It may still be
%% without any worker, and says so.
noticed(State = #state{deaths = Deaths, killed = Killed}) ->
    Ready = test_workers:ready(default),
    case [Pid || Pid <- Killed, lists:member(Pid, Ready)] of
        [] -> State#state{healed = Deaths, killed = [], is_whole = length(Ready) =:= 2};
        _ -> State#state{is_whole = false}
    end.

step({start, Kind, N, Opts, Starter}, State = #state{streams = Streams}) ->
    case start(Kind, N, Opts, Starter) of
        {ok, Owner, Ref} ->
            Stream = #stream{
                owner = Owner,
                ref = Ref,
                kind = Kind,
                n = N,
                opts = Opts,
                deaths = State#state.healed,
                demanded = maps:get(demand, Opts, infinity)
            },
            State#state{streams = Streams ++ [Stream]};
        {error, Reason} ->
            exit_is_possible(Reason, State),
            State
    end;
step({read, I, N}, State) ->
    on(I, State, fun(Stream) -> demanded_only(ask({read, N}, Stream), Stream) end);
step({demand, I, N}, State) ->
    on(I, State, fun
        (Stream = #stream{demanded = infinity}) ->
            Stream;
        (Stream = #stream{demanded = Demanded, ref = Ref}) ->
            ok = py:stream_demand(Ref, N),
            Stream#stream{demanded = Demanded + N}
    end);
step({cancel, I}, State) ->
    on(I, State, fun(Stream = #stream{ref = Ref}) ->
        ok = py:stream_cancel(Ref),
        Stream#stream{is_cancelled = true}
    end);
step({flush, I}, State) ->
    on(I, State, fun(Stream) -> ask(flush, Stream), Stream#stream{is_cancelled = true} end);
step({kill_owner, I}, State) ->
    on(I, State, fun(#stream{owner = Owner}) ->
        Monitor = monitor(process, Owner),
        exit(Owner, kill),
        receive
            {'DOWN', Monitor, process, Owner, _} -> gone
        end
    end);
step({kill_worker, I}, State = #state{deaths = Deaths}) ->
    case test_workers:ready(default) of
        [] ->
            State;
        Ready ->
            Pid = lists:nth(1 + I rem length(Ready), Ready),
            ok = test_workers:kill(Pid),
            State#state{deaths = Deaths + 1, killed = [Pid | State#state.killed]}
    end;
step(heal, State) ->
    test_eventually:true(fun() -> (noticed(State))#state.is_whole end),
    State;
step(restart_pool, State = #state{deaths = Deaths}) ->
    {ok, Opts} = application:get_env(erlang_python, pools),
    ok = py:stop_pool(default),
    {ok, _} = py:start_pool(default, maps:get(default, Opts)),
    State#state{deaths = Deaths + 1};
step({call, Function, Timeout}, State) ->
    ok = check_call(Function, Timeout, call(Function, Timeout), State),
    State;
step({collect, Kind, N, Opts}, State) ->
    case py:stream(?MODULE_NAME, Kind, [N], #{}, Opts) of
        {ok, Values} ->
            Values = lists:seq(0, total(Kind, N, Opts) - 1),
            false = fails(Kind, N, Opts);
        {error, {'ValueError', <<"that was all">>}} ->
            true = fails(Kind, N, Opts);
        {error, Reason} ->
            exit_is_possible(Reason, State)
    end,
    State.

on(_I, State = #state{streams = []}, _Fun) ->
    State;
on(I, State = #state{streams = Streams}, Fun) ->
    {Before, [Stream | After]} = lists:split(I rem length(Streams), Streams),
    case Fun(Stream) of
        gone -> State#state{streams = Before ++ After};
        NewStream -> State#state{streams = Before ++ [NewStream | After]}
    end.

demanded_only(Count, Stream = #stream{demanded = Demanded}) ->
    Count =< Demanded orelse exit({more_than_demanded, Count, Stream}),
    Stream.

call(spin, Timeout) -> py:call(?MODULE_NAME, spin, [], #{}, min(Timeout, 20));
call(fail, Timeout) -> py:call(?MODULE_NAME, fail, [], #{}, Timeout);
call(Echo, Timeout) -> py:call(?MODULE_NAME, Echo, [Timeout], #{}, Timeout).

check_call(Echo, Value, {ok, Value}, _) when Echo =:= echo; Echo =:= aecho -> ok;
check_call(fail, _, {error, {'ValueError', <<"no">>}}, _) -> ok;
check_call(spin, _, {error, timeout}, _) -> ok;
check_call(_, Timeout, {error, timeout}, _) when Timeout < 5000 -> ok;
check_call(_, _, {error, Reason}, State) -> exit_is_possible(Reason, State);
check_call(Function, _, Other, _) -> exit({wrong_result, Function, Other}).

%% For what starts now.
exit_is_possible({worker_exit, _}, #state{is_whole = false}) -> ok;
exit_is_possible(Reason, _) -> exit({wrong_reason, Reason}).

%%% What must come of a stream.

total(Kind, N, Opts) ->
    min(yields(Kind, N), maps:get(take, Opts, infinity)).

yields(Kind, _) when Kind =:= forever; Kind =:= aforever -> infinity;
yields(_, N) -> N.

fails(Kind, N, Opts) when Kind =:= failing; Kind =:= afailing -> maps:get(take, Opts, infinity) > N;
fails(_, _, _) -> false.

%% Whether it comes to an end without being cancelled.
ends(#stream{kind = Kind, n = N, opts = Opts}) when Kind =:= stuck; Kind =:= astuck ->
    maps:get(take, Opts, infinity) =< N;
ends(#stream{kind = Kind, n = N, opts = Opts}) ->
    total(Kind, N, Opts) =/= infinity.

%% The end of a stream is one of those that its story allows.
check_end(done, Count, #stream{kind = Kind, n = N, opts = Opts}) ->
    not fails(Kind, N, Opts) andalso Count =:= total(Kind, N, Opts);
check_end({error, {'ValueError', <<"that was all">>}}, Count, #stream{kind = Kind, n = N, opts = Opts}) ->
    fails(Kind, N, Opts) andalso Count =:= N;
check_end({error, cancelled}, _Count, #stream{is_cancelled = IsCancelled}) ->
    IsCancelled;
check_end({error, timeout}, _Count, #stream{opts = Opts}) ->
    maps:is_key(timeout, Opts);
check_end({error, {worker_exit, _}}, _Count, _Stream) ->
    %% Whether one died is checked where that is known.
    true;
check_end({error, {no_pool, _}}, Count, _Stream) ->
    %% It waited for a worker when the pool was stopped.
    Count =:= 0;
check_end(flushed, _Count, #stream{is_cancelled = IsCancelled}) ->
    IsCancelled;
check_end(_, _, _) ->
    false.

%% What holds after each step: no more is in the mailbox than the window has room for, plus
%% the terminal event.
check(#stream{owner = Owner, opts = Opts}) ->
    Waiting = length([Event || Event = {py_stream, _, _} <- mail(Owner)]),
    Waiting =< maps:get(window, Opts, 1024) + 1 orelse exit({window_exceeded, Waiting}).

mail(Pid) ->
    {messages, Messages} = process_info(Pid, messages),
    Messages.

%% Brings a stream to its end, and checks that the end is one that may be.
finish(Stream = #stream{ref = Ref, demanded = Demanded}, #state{deaths = Deaths}) ->
    Demanded =/= infinity andalso py:stream_demand(Ref, 1000000),
    Ended = Stream#stream{
        is_cancelled = Stream#stream.is_cancelled orelse not ends(Stream),
        demanded = infinity
    },
    ends(Stream) orelse py:stream_cancel(Ref),
    {End, Count} = ask(finish, Ended),
    check_end(End, Count, Ended) orelse exit({wrong_end, End, Count, Ended}),
    IsExit = is_tuple(End) andalso is_tuple(element(2, End)) andalso element(1, element(2, End)) =:= worker_exit,
    IsExit andalso (Deaths > Ended#stream.deaths orelse exit({wrong_end, End, Count, Ended})),
    Ended.

nothing_more(#stream{owner = Owner}) ->
    [] = mail(Owner),
    Owner ! stop.

%%% Owners. Each takes the events of one stream, and ends with an error when one of them
%%% is not the next.

start(Kind, N, Opts, Starter) ->
    Parent = self(),
    Owner = spawn(fun() -> owner(Parent, Opts) end),
    Started =
        case Starter of
            other -> py:stream_start(?MODULE_NAME, Kind, [N], Opts#{owner => Owner});
            owner -> ask({start, Kind, N, Opts}, Owner)
        end,
    case Started of
        {ok, Ref} ->
            Owner ! {ref, Ref},
            {ok, Owner, Ref};
        Error ->
            Owner ! stop,
            Error
    end.

ask(Question, #stream{owner = Owner}) ->
    ask(Question, Owner);
ask(Question, Owner) ->
    Monitor = monitor(process, Owner),
    Owner ! {ask, self(), Monitor, Question},
    receive
        {Monitor, Answer} ->
            demonitor(Monitor, [flush]),
            Answer;
        {'DOWN', Monitor, process, Owner, Reason} ->
            exit(Reason)
    after 2 * ?LOST_MS -> exit({no_answer, Question})
    end.

owner(Parent, Opts) ->
    Monitor = monitor(process, Parent),
    receive
        {ask, From, Tag, {start, Kind, N, Opts}} ->
            From ! {Tag, py:stream_start(?MODULE_NAME, Kind, [N], Opts)},
            owner(Parent, Opts);
        {ref, Ref} ->
            serve(#{ref => Ref, next => 0, ended => false, batch => maps:get(batch, Opts, none)});
        stop ->
            ok;
        {'DOWN', Monitor, process, Parent, _} ->
            ok
    end.

serve(State = #{ref := Ref}) ->
    receive
        {ask, From, Tag, {read, N}} ->
            NewState = #{next := Next} = read(N, State),
            From ! {Tag, Next},
            serve(NewState);
        {ask, From, Tag, flush} ->
            ok = py:stream_cancel(Ref, [flush]),
            NewState =
                case State of
                    #{ended := false} -> State#{ended := flushed};
                    _ -> State
                end,
            From ! {Tag, ok},
            serve(NewState);
        {ask, From, Tag, finish} ->
            NewState = #{ended := End, next := Next} = drain(State),
            From ! {Tag, {End, Next}},
            serve(NewState);
        stop ->
            ok;
        {'DOWN', _, process, _, _} ->
            ok
    end.

read(0, State) ->
    State;
read(N, State = #{ref := Ref}) ->
    case next(Ref, ?READ_MS) of
        timeout -> State;
        Event -> read(N - 1, took(Event, State))
    end.

drain(State = #{ended := End}) when End =/= false ->
    State;
drain(State = #{ref := Ref}) ->
    case next(Ref, ?LOST_MS) of
        timeout -> exit({no_end, State});
        Event -> drain(took(Event, State))
    end.

%% As it comes, which stream_next does not show.
next(Ref, Timeout) ->
    receive
        {py_stream, Ref, Event} -> Event
    after Timeout -> timeout
    end.

took(Event, State = #{ended := End}) when End =/= false ->
    exit({after_the_end, Event, State});
took({data, Next}, State = #{next := Next, batch := none}) ->
    State#{next := Next + 1};
took({batch, Values}, State = #{next := Next, batch := Most}) when
    is_integer(Most), length(Values) > 0, length(Values) =< Most
->
    New = Next + length(Values),
    Values =:= lists:seq(Next, New - 1) orelse exit({wrong_values, Values, State}),
    State#{next := New};
took(done, State) ->
    State#{ended := done};
took({error, Reason}, State) ->
    State#{ended := {error, Reason}};
took(Event, State) ->
    exit({wrong_event, Event, State}).
