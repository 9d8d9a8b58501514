%% @doc Counts the events of streams in the mailboxes of their owners, for py_mailbox: one
%% mailbox of a node at a time.
%%
%% The VM copies the whole mailbox for a count. Sixteen streams of an owner with 100 MB of
%% other mail would copy 1.6 GB at once, so all of them share a count, and the next mailbox
%% waits until that one's copy is freed. Whoever asks does not wait: the answer is a message.
%% @hidden
-module(py_mail_counter).
-behaviour(gen_server).

-export([start_link/0, ask/4, check/2]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).
%% Called by spawn_opt/4.
-export([count/2]).
-export_type([request/0]).

%% The words of mail that a count copies at most. Mail that the collector has moved into the owner's heap
%% cannot be distinguished from what else is there: a count is given up then when it has made the copy,
%% and not made again until there is less mail.
-define(MAX_WORDS, 32 * 1024 * 1024).

%% Undisturbed, a check of the mailbox and of its size costs its owner two reductions. An owner that ran used more.
-define(REDUCTIONS_OF_A_COUNT, 2).

-record(counted, {
    %% All messages, and those of the stream.
    length :: non_neg_integer(),
    events :: non_neg_integer(),
    %% The owner's reductions, unless it ran meanwhile.
    reductions :: integer() | unknown,
    %% What it took, in native time units.
    took :: integer()
}).
-opaque request() :: gen_server:request_id().
-type asker() :: {gen_server:from(), Ref :: reference()}.

-record(job, {owner :: pid(), process :: pid(), monitor :: reference(), askers :: [asker()], started :: integer()}).

%% An owner that has only been counted since it had the first of these reductions. The last are
%% those after the last count: a count costs its owner some, and looks like a run to whoever did
%% not make it.
-record(asleep, {
    first :: integer(),
    last :: integer(),
    %% What that count was, of all streams, and when it began.
    length :: non_neg_integer(),
    events :: #{reference() => pos_integer()},
    started :: integer()
}).

-record(state, {
    %% One for each node that owners are on.
    running = #{} :: #{node() => #job{}},
    %% By owner, the oldest first.
    waiting = [] :: [{Owner :: pid(), [asker()]}],
    %% Owners that had not run when they were counted last.
    asleep = #{} :: #{Owner :: pid() => #asleep{}},
    %% Owners whose copy was too large, and how many messages they had.
    large = #{} :: #{Owner :: pid() => non_neg_integer()}
}).

%% Owners that are remembered, before those that have ended are forgotten.
-define(MAX_OWNERS, 1000).

-spec start_link() -> {ok, pid()} | {error, term()}.
start_link() ->
    %% It holds nothing that is large, and no limit is to end it.
    gen_server:start_link({local, ?MODULE}, ?MODULE, [], [{spawn_opt, [{max_heap_size, 0}]}]).

%% @doc Asks how many events of `Ref' are in the mailbox of `Owner'. `Reductions' are the owner's
%% as the last answer had them; nothing was sent to it `Since'.
-spec ask(Owner :: pid(), Ref :: reference(), Reductions :: integer(), Since :: integer() | undefined) -> request().
ask(Owner, Ref, Reductions, Since) ->
    gen_server:send_request(?MODULE, {count, Owner, Ref, Reductions, Since}).

%% @doc Whether a message is the answer: `{Length, Events, Reductions, Took}'; `unchanged' if the
%% owner has not run since the last answer, but for counts; `unknown' if they
%% cannot be counted, because the owner has ended or has more mail than may be copied.
-spec check(term(), request()) ->
    {non_neg_integer(), non_neg_integer(), integer() | unknown, integer()}
    | {unchanged, Reductions :: integer()}
    | {unknown, integer()}
    | no_answer.
check(Message, Request) ->
    case gen_server:check_response(Message, Request) of
        {reply, Other} when is_tuple(Other), element(1, Other) =/= counted -> Other;
        {reply, #counted{length = Length, events = Events, reductions = Reductions, took = Took}} ->
            {Length, Events, Reductions, Took};
        %% It was killed, and is started again.
        {error, _} -> {unknown, 0};
        no_reply -> no_answer
    end.

%%% gen_server callbacks.

-spec init([]) -> {ok, #state{}}.
init([]) ->
    {ok, #state{}}.

-spec handle_call(term(), gen_server:from(), #state{}) ->
    {noreply, #state{}} | {reply, term(), #state{}}.
handle_call({count, Owner, Ref, Known, Since}, From, State = #state{asleep = Owners}) ->
    case Owners of
        #{Owner := Asleep = #asleep{last = Last}} ->
            case process_info(Owner, reductions) of
                {reductions, Last} -> known(Asleep, Owner, Ref, Known, Since, From, State);
                _ -> {noreply, next(wait(Owner, {From, Ref}, State#state{asleep = maps:remove(Owner, Owners)}))}
            end;
        #{} ->
            {noreply, next(wait(Owner, {From, Ref}, State))}
    end;
handle_call(_Other, _From, State) ->
    {reply, {error, unknown}, State}.

-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast(_Other, State) ->
    {noreply, State}.

-spec handle_info(term(), #state{}) -> {noreply, #state{}}.
handle_info({'DOWN', Monitor, process, _, Result}, State = #state{running = Running}) ->
    case [Node || {Node, #job{monitor = M}} <- maps:to_list(Running), M =:= Monitor] of
        [Node] ->
            {Job, Rest} = maps:take(Node, Running),
            answer(Result, Job),
            {noreply, next(remember(Result, Job, State#state{running = Rest}))};
        [] ->
            {noreply, State}
    end;
handle_info(_Other, State) ->
    {noreply, State}.

known(#asleep{first = First, last = Last}, _, _, Known, _, _, State) when Known >= First, Known =< Last ->
    {reply, {unchanged, Last}, State};
known(#asleep{started = Started} = Asleep, _, Ref, _, Since, _, State) when is_integer(Since), Since < Started ->
    #asleep{length = Length, events = Events, last = Last} = Asleep,
    Counted = #counted{length = Length, events = maps:get(Ref, Events, 0), reductions = Last, took = 0},
    {reply, Counted, State};
known(_, Owner, Ref, _, _, From, State) ->
    {noreply, next(wait(Owner, {From, Ref}, State))}.

%% A count that runs may have been too early for who asks now.
wait(Owner, Asker, State = #state{waiting = Waiting}) ->
    Askers =
        case lists:keyfind(Owner, 1, Waiting) of
            {Owner, Others} -> Others;
            false -> []
        end,
    State#state{waiting = lists:keystore(Owner, 1, Waiting, {Owner, [Asker | Askers]})}.

next(State = #state{running = Running, waiting = Waiting}) ->
    IsFree = fun({Owner, _}) -> not is_map_key(node(Owner), Running) end,
    case lists:search(IsFree, Waiting) of
        {value, {Owner, Askers}} ->
            Rest = lists:keydelete(Owner, 1, Waiting),
            next(start(Owner, Askers, State#state{waiting = Rest}));
        false ->
            State
    end.

start(Owner, Askers, State = #state{running = Running, large = Large}) ->
    Started = erlang:monotonic_time(),
    %% An atom is more than any number.
    Max = maps:get(Owner, Large, infinity),
    try spawn_opt(?MODULE, count, [Owner, Max], [monitor, {max_heap_size, limit()}]) of
        {Process, Monitor} ->
            Job = #job{owner = Owner, process = Process, monitor = Monitor, askers = Askers, started = Started},
            State#state{running = Running#{node(Owner) => Job}}
    catch
        %% The node has as many processes as it may have.
        error:system_limit ->
            reply_all({unknown, 0}, Askers),
            State
    end.

limit() ->
    #{size => ?MAX_WORDS, kill => true, error_logger => false}.

remember({counted, Length, Events, Before, After}, #job{owner = Owner, started = Started}, State) when
    is_integer(After)
->
    #state{asleep = Owners} = State,
    First =
        case Owners of
            #{Owner := #asleep{first = Earlier, last = Before}} -> Earlier;
            #{} -> After
        end,
    Asleep = #asleep{first = First, last = After, length = Length, events = Events, started = Started},
    State#state{asleep = living(Owners#{Owner => Asleep}), large = maps:remove(Owner, State#state.large)};
remember(killed, #job{owner = Owner}, State = #state{asleep = Owners, large = Large}) when node(Owner) =:= node() ->
    case process_info(Owner, message_queue_len) of
        {_, Length} -> State#state{asleep = maps:remove(Owner, Owners), large = living(Large#{Owner => Length})};
        undefined -> State#state{asleep = maps:remove(Owner, Owners)}
    end;
remember(_, #job{owner = Owner}, State = #state{asleep = Owners}) ->
    State#state{asleep = maps:remove(Owner, Owners)}.

living(Owners) when map_size(Owners) =< ?MAX_OWNERS -> Owners;
living(Owners) -> maps:filter(fun(Owner, _) -> is_process_alive(Owner) end, Owners).

answer({counted, Length, Events, _Before, Reductions}, #job{askers = Askers, started = Started}) ->
    Took = erlang:monotonic_time() - Started,
    lists:foreach(
        fun({From, Ref}) ->
            N = maps:get(Ref, Events, 0),
            gen_server:reply(From, #counted{length = Length, events = N, reductions = Reductions, took = Took})
        end,
        Askers
    );
answer(_, #job{askers = Askers, started = Started}) ->
    reply_all({unknown, erlang:monotonic_time() - Started}, Askers).

reply_all(Answer, Askers) ->
    lists:foreach(fun({From, _}) -> gen_server:reply(From, Answer) end, Askers).

%%% The process of a count. The copy of the mailbox is its own, and goes with it.

%% @private Its exit is the answer.
-spec count(Owner :: pid(), Max :: non_neg_integer() | infinity) -> no_return().
count(Owner, Max) ->
    exit(
        try
            counts(Owner, Max)
        catch
            %% The owner has ended, or its node is gone.
            _:_ -> unknown
        end
    ).

counts(Owner, Max) when node(Owner) =:= node() ->
    [{reductions, Before}, {message_queue_len, LengthBefore}, {memory, Memory}, {garbage_collection_info, Heap}] =
        process_info(Owner, [reductions, message_queue_len, memory, garbage_collection_info]),
    true = LengthBefore < Max andalso Memory - heap_bytes(Heap) =< ?MAX_WORDS * erlang:system_info(wordsize),
    {messages, Messages} = process_info(Owner, messages),
    [{reductions, After}, {message_queue_len, LengthAfter}] =
        process_info(Owner, [reductions, message_queue_len]),
    Length = length(Messages),
    Reductions =
        case After - Before =< ?REDUCTIONS_OF_A_COUNT andalso LengthAfter =:= Length of
            true -> After;
            %% It may have taken something since.
            false -> unknown
        end,
    {counted, Length, events(Messages, #{}), Before, Reductions};
%% There, as an expression: nothing of this application need be loaded.
counts(Owner, _Max) ->
    Bindings = #{'Owner' => Owner, 'Limit' => limit(), 'MaxWords' => ?MAX_WORDS},
    {value, {Length, Refs}, _} =
        erpc:call(node(Owner), erl_eval, exprs, [count_expression(), Bindings]),
    {counted, Length, maps:from_list(Refs), unknown, unknown}.

%% What is beyond is mail.
heap_bytes(Heap) ->
    {_, Young} = lists:keyfind(heap_block_size, 1, Heap),
    {_, Old} = lists:keyfind(old_heap_block_size, 1, Heap),
    (Young + Old) * erlang:system_info(wordsize).

events([{py_stream, Ref, _} | Rest], Counts) ->
    case Counts of
        #{Ref := N} -> events(Rest, Counts#{Ref := N + 1});
        #{} -> events(Rest, Counts#{Ref => 1})
    end;
events([_ | Rest], Counts) ->
    events(Rest, Counts);
events([], Counts) ->
    Counts.

%% In a fun, because the bindings of an expression come back with its value.
count_expression() ->
    {ok, Tokens, _} = erl_scan:string(
        "(fun() ->"
        "process_flag(max_heap_size, Limit),"
        "[{memory, Memory}, {garbage_collection_info, Heap}] = process_info(Owner, [memory, garbage_collection_info]),"
        "{_, Young} = lists:keyfind(heap_block_size, 1, Heap), {_, Old} = lists:keyfind(old_heap_block_size, 1, Heap),"
        "true = Memory div erlang:system_info(wordsize) - Young - Old =< MaxWords,"
        "{messages, Ms} = process_info(Owner, messages),"
        "Refs = lists:sort([R || {py_stream, R, _} <- Ms]),"
        "{length(Ms), lists:foldl(fun(R, [{R, N} | Rest]) -> [{R, N + 1} | Rest]; (R, Rest) -> [{R, 1} | Rest] end, [], Refs)}"
        "end)()."
    ),
    {ok, Expressions} = erl_parse:parse_exprs(Tokens),
    Expressions.
